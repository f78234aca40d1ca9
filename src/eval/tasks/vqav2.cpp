#include <cstdio>
#include <cstdlib>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/answer_normaliser.h"
#include "vlmamba/eval/metrics/vqa_accuracy.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;

struct Annotation {
  std::vector<HumanAnswer> people;
  std::string question_type, answer_type;
};

struct Questions {
  std::vector<Asked> asked;
  std::vector<Annotation> annotations;
};

Annotation annotation_of(const Json& json, const std::string& path) {
  Annotation annotation{{}, text_of(json, "question_type", path), text_of(json, "answer_type", path)};
  for (const Json& person : io::require(json, "answers", Json::Kind::kArray, path, kCode).items()) {
    HumanAnswer answer{text_of(person, "answer", path), {}};
    for (const auto& [key, value] : person.members())
      if (key != "answer") answer.tag += value.is_string() ? value.as_string() + '\n' : value.to_string() + '\n';
    annotation.people.push_back(std::move(answer));
  }
  if (annotation.people.empty())
    throw Error(kCode, path + ":" + std::to_string(json.line), "answers: expected at least one, got none");
  return annotation;
}

Questions read_annotations(const DataFiles& data) {
  const std::string& path = data.at("annotations");
  Questions questions;
  std::unordered_map<std::string, size_t> index;
  io::for_each_element(io::read_file(path, kCode), "annotations", path, kCode, [&](const Json& json, int64_t line) {
    const std::string id = id_text(json, "question_id", path, line);
    if (!index.emplace(id, questions.asked.size()).second)
      throw Error(kCode, path + ":" + std::to_string(line), "question_id: expected each once, got " + id + " again");
    questions.asked.push_back({id});
    questions.annotations.push_back(annotation_of(json, path));
  });
  const std::string& texts = data.at("questions");
  io::for_each_element(io::read_file(texts, kCode), "questions", texts, kCode, [&](const Json& json, int64_t line) {
    const auto found = index.find(id_text(json, "question_id", texts, line));
    if (found != index.end()) questions.asked[found->second].text = text_of(json, "question", texts);
  });
  for (const auto& asked : questions.asked)
    if (asked.text.empty())
      throw Error(kCode, texts, "expected a question with the annotated id " + asked.id + ", got none");
  return questions;
}

// As the official script prints: two decimals of the exact value.
double rounded(double percent) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", percent);
  return std::strtod(text, nullptr);
}

double append_accuracy(const std::string& prefix, const Questions& questions, const std::vector<std::string>& answers,
                       Json& metrics) {
  Mean overall;
  Means by_answer, by_question;
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto& annotation = questions.annotations[i];
    const double accuracy = vqa_accuracy(answers[i], annotation.people);
    overall.add(accuracy);
    by_answer[annotation.answer_type].add(accuracy);
    by_question[annotation.question_type].add(accuracy);
  }
  metrics.append(prefix + "overall", rounded(overall.percent()));
  for (const auto& [type, mean] : by_answer) metrics.append(prefix + "perAnswerType/" + type, rounded(mean.percent()));
  for (const auto& [type, mean] : by_question)
    metrics.append(prefix + "perQuestionType/" + type, rounded(mean.percent()));
  metrics.append(prefix + "overall_unrounded", overall.percent());
  return overall.percent();
}

// lmms-eval normalises both sides always.
double append_lmms_accuracy(const Questions& questions, const std::vector<std::string>& answers, Json& metrics) {
  Mean overall;
  for (size_t i = 0; i < answers.size(); ++i) {
    std::vector<std::string> people;
    for (const auto& person : questions.annotations[i].people) people.push_back(person.text);
    overall.add(textvqa_accuracy(answers[i], people));
  }
  metrics.append("exact_match", overall.percent());
  return overall.percent();
}

int64_t count_unanimous(const Questions& questions) {
  int64_t count = 0;
  for (const auto& [people, question_type, answer_type] : questions.annotations) {
    bool same = true;
    for (const auto& person : people) same = same && vqa_stripped(person.text) == vqa_stripped(people[0].text);
    count += same ? 1 : 0;
  }
  return count;
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kResults, AnswerForm::kMap});
  const Questions questions = read_annotations(input.data);
  ScoreResult result;
  const auto matched = match_answers(questions.asked, input, result);
  std::vector<std::string> raw, submitted;  // what is missing is submitted as an empty answer
  for (const Answer* answer : matched) {
    raw.push_back(answer ? answer->text : "");
    submitted.push_back(answer ? evalai_normalised(answer->text) : "");
  }
  result.score = append_accuracy("", questions, raw, result.metrics);
  for (size_t i = 0; i < matched.size() && input.protocol == Protocol::kLlava; ++i)
    if (matched[i])
      give_credit(*matched[i], vqa_accuracy(matched[i]->text, questions.annotations[i].people), input, result);
  append_accuracy("submission/", questions, submitted, result.metrics);
  if (input.protocol == Protocol::kLmmsEval) result.score = append_lmms_accuracy(questions, raw, result.metrics);
  result.counts.set("unanimous_after_strip", count_unanimous(questions));
  return result;
}

// LLaVA's lines where they are, else the official questions, whose pictures are named by number.
std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions&) {
  if (const auto lines = data.find("lines"); lines != data.end()) return read_llava_questions(lines->second);
  const auto official = data.find("questions");
  if (official == data.end())
    throw Error(kCode, "vqav2", "expected llava_vqav2_mscoco_test-dev2015.jsonl or *questions.json, got neither");
  const std::string& path = official->second;
  const std::string text = io::read_file(path, kCode);
  std::string subtype = "val2014";
  io::for_each_member(text, path, kCode, [&](const std::string& key, const Json& value, int64_t) {
    if (key == "data_subtype" && value.is_string()) subtype = value.as_string();
  });
  std::vector<TaskQuestion> questions;
  io::for_each_element(text, "questions", path, kCode, [&](const Json& json, int64_t line) {
    TaskQuestion question;
    question.id = id_text(json, "question_id", path, line);
    question.integer_id = json.find("question_id")->is_integer();
    std::string number = id_text(json, "image_id", path, line);
    number.insert(0, number.size() < 12 ? 12 - number.size() : 0, '0');
    question.image = "COCO_" + subtype + "_" + number + ".jpg";
    question.text = question.prompt = text_of(json, "question", path) + kShortSuffix;
    questions.push_back(std::move(question));
  });
  return questions;
}

// What the server takes: an answer to every question of the upload's list, normalised; missing ones are empty.
std::optional<Submission> submission_of(const DataFiles& data, const AnswerFile& answers) {
  std::unordered_map<std::string_view, const Answer*> by_id;
  std::vector<std::string_view> ids;
  for (const auto& answer : answers.answers) by_id.emplace(answer.id, &answer), ids.push_back(answer.id);
  std::vector<TaskQuestion> all;
  if (const auto upload = data.find("upload"); upload != data.end()) {
    all = read_llava_questions(upload->second);
    ids.clear();
    for (const auto& question : all) ids.push_back(question.id);
  }
  std::string list = "[";
  for (const auto id : ids) {
    const auto answer = by_id.find(id);
    Json entry = Json::object();
    entry.append("question_id", "");
    entry.append("answer", answer == by_id.end() ? std::string() : evalai_normalised(answer->second->text));
    std::string text = entry.to_string();
    text.replace(text.find("\"\""), 2, id);  // ids are integers
    list += (list.size() > 1 ? ",\n" : "") + text;
  }
  return Submission{"submission.json", list + "]\n"};
}

std::vector<std::string> picture_places(const std::string& image) {
  return {"test2015/" + image, "val2014/" + image, "images/" + image, image};
}

}  // namespace

Benchmark vqav2() {
  return {"vqav2",
          "VQA accuracy of the answers as they are, in percent",
          {{"questions", "*questions.json"}, {"annotations", "*annotations.json"}},
          score,
          {{"lines", "llava_vqav2_mscoco_test-dev2015.jsonl", false},
           {"questions", "*questions.json", false},
           {"upload", "llava_vqav2_mscoco_test2015.jsonl", false}},
          questions_of,
          picture_places,
          128,
          submission_of};
}

}  // namespace vlmamba::tasks
