#include <optional>
#include <utility>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/eval/metrics/vqa_accuracy.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;
constexpr size_t kNumPeople = 10;

struct Annotation {
  std::vector<std::string> people;
  int64_t count = 0, answered = 0;  // how often question and picture come: in the annotations, among the answers
};

// By picture and question in lower case.
using Annotations = std::map<std::pair<std::string, std::string>, Annotation>;

Annotations read_annotations(const std::string& path) {
  Annotations annotations;
  io::for_each_element(io::read_file(path, kCode), "data", path, kCode, [&](const Json& json, int64_t line) {
    const std::string image = id_text(json, "image_id", path, line);
    auto& annotation = annotations[{image, unicode::lower(text_of(json, "question", path))}];
    annotation.people.clear();
    ++annotation.count;
    for (const Json& answer : io::require(json, "answers", Json::Kind::kArray, path, kCode).items())
      annotation.people.push_back(answer.is_string() ? answer.as_string() : answer.to_string());
    if (annotation.people.size() != kNumPeople)
      throw Error(kCode, path + ":" + std::to_string(line),
                  "answers: expected 10, got " + std::to_string(annotation.people.size()));
  });
  return annotations;
}

// The question in a prompt of LLaVA: before or behind the line of OCR tokens, or without one; or, in the older form,
// between "Question: " and " Short answer:".
std::optional<std::string> question_of(const std::string& prompt) {
  if (prompt.starts_with("OCR tokens: ")) {
    constexpr std::string_view kStart = "Question: ", kEnd = " Short answer:";
    const auto start = prompt.find(kStart);
    const auto end = start == std::string::npos ? start : prompt.find(kEnd, start + kStart.size());
    if (end == std::string::npos) return std::nullopt;
    return prompt.substr(start + kStart.size(), end - start - kStart.size());
  }
  std::vector<std::string> lines{""};
  for (const char c : prompt)
    if (c == '\n')
      lines.emplace_back();
    else
      lines.back() += c;
  if (lines.size() == 3 && prompt.find("Reference OCR token: ") != std::string::npos)
    return lines[prompt.starts_with("Reference OCR token:") ? 1 : 0];
  if (lines.size() == 2) return lines[0];
  return std::nullopt;
}

const Annotation& find_annotation(const Answer& answer, const AnswerFile& file, Annotations& annotations) {
  const std::string where = place_of(file, answer);
  const auto question = question_of(answer.prompt);
  if (!question)
    throw Error(kCode, where,
                "prompt: expected a question, at most one line of OCR tokens, and an instruction, got \"" +
                    answer.prompt.substr(0, 80) + "\"; is it the answers file of another benchmark?");
  const auto found = annotations.find({answer.id, unicode::lower(*question)});
  if (found == annotations.end())
    throw Error(kCode, where,
                "expected a question of the annotations, got \"" + *question + "\" about image " + answer.id +
                    "; is it the answers file of another benchmark?");
  if (++found->second.answered > found->second.count)
    throw Error(kCode, where,
                "expected each question once, got \"" + *question + "\" about image " + answer.id + " again");
  return found->second;
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines});
  auto annotations = read_annotations(input.data.at("annotations"));
  ScoreResult result;
  Mean accuracy;  // missing answers do not count, as in the official script
  int64_t with_ocr = 0;
  for (const auto& answer : input.answers.answers) {
    const double value = textvqa_accuracy(answer.text, find_annotation(answer, input.answers, annotations).people);
    accuracy.add(value);
    give_credit(answer, value, input, result);
    with_ocr += answer.prompt.find("OCR token") != std::string::npos ? 1 : 0;
  }
  int64_t questions = 0;
  std::vector<std::string> missing;
  for (const auto& [key, annotation] : annotations) {
    questions += annotation.count;
    missing.insert(missing.end(), static_cast<size_t>(annotation.count - annotation.answered), key.first);
  }
  check_coverage(questions, accuracy.count(), missing, input, result);
  result.score = accuracy.percent();
  result.metrics.append("samples", accuracy.count());
  result.metrics.append("accuracy", accuracy.percent());
  result.counts.set("prompts_with_ocr_tokens", with_ocr);
  return result;
}

// Question, OCR tokens and instruction, a line each, in the order that is wanted.
std::string arranged(const std::string& text, const AskOptions& options) {
  const auto first = text.find('\n'), last = text.rfind('\n');
  if (first == std::string::npos) return text;
  std::string question = text.substr(0, first);
  const std::string ocr = first == last ? "" : text.substr(first + 1, last - first - 1), end = text.substr(last);
  if (options.protocol == Protocol::kLmmsEval) {  // str.capitalize()
    question = unicode::lower(question);
    if (!question.empty() && question[0] >= 'a' && question[0] <= 'z')
      question[0] = static_cast<char>(question[0] - 'a' + 'A');
    return question + end;
  }
  if (ocr.empty() || options.ocr_tokens == OcrTokens::kNone) return question + end;
  return (options.ocr_tokens == OcrTokens::kOcrFirst ? ocr + "\n" + question : question + "\n" + ocr) + end;
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions& options) {
  return read_llava_questions(data.at("lines"), [&](const Json&, TaskQuestion& question) {
    question.text = question.prompt = arranged(question.text, options);
    if (question.image.empty()) question.image = question.id + ".jpg";
  });
}

std::vector<std::string> picture_places(const std::string& image) {
  return {"train_images/" + image, "train_val_images/train_images/" + image, image};
}

}  // namespace

Benchmark textvqa() {
  return {"textvqa",     "VQA accuracy of normalised answers, in percent", {{"annotations", "TextVQA_[!R]*_val.json"}},
          score,         {{"lines", "llava_textvqa_val_v051_ocr.jsonl"}},  questions_of,
          picture_places};
}

}  // namespace vlmamba::tasks
