#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <tuple>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/eval/metrics/yes_no.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

namespace fs = std::filesystem;

constexpr ExitCode kCode = ExitCode::kData;
constexpr std::string_view kShort = "Answer the question using a single word or phrase.";
constexpr std::string_view kYesNo = " Please answer yes or no.";
constexpr std::array<const char*, 10> kPerception{"existence", "count", "position", "color",   "posters",
                                                  "celebrity", "scene", "landmark", "artwork", "OCR"};
constexpr std::array<const char*, 4> kCognition{"commonsense_reasoning", "numerical_calculation", "text_translation",
                                                "code_reasoning"};

// Task, file name with .txt, question.
using Key = std::tuple<std::string, std::string, std::string>;

struct Truth {
  bool yes = false;
  int64_t count = 0, answered = 0;
};

struct Line {
  std::string file;
  YesNo answer;
  bool yes;

  bool right() const { return answer == (yes ? YesNo::kYes : YesNo::kNo); }
};

struct TaskScore {
  int64_t right = 0, lines = 0, images = 0, whole_images = 0, other = 0, mixed = 0;
  YesNoCounts counts;

  double accuracy() const { return static_cast<double>(right) / static_cast<double>(lines); }
  double accuracy_plus() const { return static_cast<double>(whole_images) / static_cast<double>(images); }
  double score() const { return accuracy() * 100 + accuracy_plus() * 100; }
};

void read_truths_of_image(const std::string& task, const fs::path& path, std::map<Key, Truth>& truths) {
  const std::string bytes = io::read_file(path.string(), kCode);
  const auto text = io::without_mark(bytes);
  int64_t number = 1;
  for (size_t at = 0; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const auto line = unicode::strip(text.substr(at, end - at));
    at = end + 1;
    if (line.empty()) continue;
    const auto tab = line.find('\t');
    const std::string truth = unicode::lower(tab == line.npos ? std::string_view() : line.substr(tab + 1));
    if (truth != "yes" && truth != "no")
      throw Error(kCode, path.string() + ":" + std::to_string(number),
                  "expected a question, a tab, and Yes or No, got \"" + std::string(line.substr(0, 80)) + "\"");
    auto& entry = truths[{task, path.filename().string(), std::string(line.substr(0, tab))}];
    entry.yes = truth == "yes";
    ++entry.count;
  }
}

// A task's texts lie beside its pictures, or in a folder of their own beside images/.
std::map<Key, Truth> read_truths(fs::path folder) {
  if (fs::is_directory(folder / "MME_Benchmark")) folder /= "MME_Benchmark";
  std::map<Key, Truth> truths;
  for (const auto& task : fs::directory_iterator(folder)) {
    if (!task.is_directory()) continue;
    const fs::path texts = fs::exists(task.path() / "images") ? task.path() / "questions_answers_YN" : task.path();
    if (!fs::is_directory(texts)) throw Error(kCode, texts.string(), "expected a folder, got none");
    for (const auto& file : fs::directory_iterator(texts))
      if (file.path().extension() == ".txt") read_truths_of_image(task.path().filename().string(), file.path(), truths);
  }
  if (truths.empty()) throw Error(kCode, folder.string(), "expected folders of tasks with texts, got none");
  return truths;
}

// What LLaVA's converter makes of a prompt.
std::string question_of(const std::string& prompt, const std::string& task, const std::string& file,
                        const std::map<Key, Truth>& truths) {
  std::string question = prompt;
  if (question.find(kShort) != std::string::npos)
    question = std::string(unicode::strip(unicode::replaced(question, kShort, "")));
  if (question.find("Please answer yes or no.") != std::string::npos) return question;
  question += kYesNo;
  if (truths.contains({task, file, question})) return question;
  return unicode::replaced(question, kYesNo, " " + std::string(kYesNo));
}

using Lines = std::vector<std::pair<std::string, std::vector<Line>>>;  // by task, in the order of the answers

std::vector<Line>& lines_of(const std::string& task, Lines& lines) {
  for (auto& [name, of_task] : lines)
    if (name == task) return of_task;
  return lines.emplace_back(task, std::vector<Line>()).second;
}

// lmms-eval strips the answer and its periods first.
YesNo answer_of(const std::string& text, Protocol protocol) {
  if (protocol == Protocol::kLlava) return mme_answer(text);
  return mme_answer(unicode::replaced(unicode::strip(text), ".", ""));
}

Lines convert(const ScoreInput& input, std::map<Key, Truth>& truths, ScoreResult& result) {
  const AnswerFile& answers = input.answers;
  Lines lines;
  for (const auto& answer : answers.answers) {
    const std::string task = answer.id.substr(0, answer.id.find('/'));
    const std::string name = answer.id.substr(answer.id.rfind('/') + 1);
    const std::string file = name.substr(0, name.find('.')) + ".txt";
    const std::string question = question_of(answer.prompt, task, file, truths);
    const auto truth = truths.find({task, file, question});
    if (truth == truths.end())
      throw Error(kCode, place_of(answers, answer),
                  "expected a question of the benchmark, got \"" + question + "\" about " + task + "/" + file +
                      "; is it the answers file of another benchmark?");
    if (++truth->second.answered > truth->second.count)
      throw Error(kCode, place_of(answers, answer), "expected each question once, got \"" + question + "\" again");
    const Line line{file, answer_of(answer.text, input.protocol), truth->second.yes};
    give_credit(answer, line.right() ? 1 : 0, input, result);
    lines_of(task, lines).push_back(line);
  }
  return lines;
}

// Two consecutive lines are one image; where lines are missing, a line without its partner is an image that is not
// wholly right.
TaskScore score_task(const std::vector<Line>& lines, bool complete) {
  TaskScore score;
  for (size_t i = 0; i < lines.size();) {
    const bool same = i + 1 < lines.size() && lines[i + 1].file == lines[i].file;
    const size_t size = i + 1 < lines.size() && (same || complete) ? 2 : 1;
    int64_t right_here = 0;
    for (size_t j = i; j < i + size; ++j) {
      right_here += lines[j].right() ? 1 : 0;
      if (lines[j].answer == YesNo::kOther)
        ++score.other;
      else
        score.counts.add(lines[j].answer, lines[j].yes);
    }
    score.right += right_here;
    score.lines += static_cast<int64_t>(size);
    score.whole_images += right_here == 2 ? 1 : 0;
    score.mixed += size == 2 && !same ? 1 : 0;
    ++score.images;
    i += size;
  }
  return score;
}

void check_answered(const std::map<Key, Truth>& truths, const ScoreInput& input, ScoreResult& result) {
  int64_t questions = 0, answered = 0;
  std::vector<std::string> missing;
  for (const auto& [key, truth] : truths) {
    questions += truth.count;
    answered += truth.answered;
    missing.insert(missing.end(), static_cast<size_t>(truth.count - truth.answered),
                   std::get<0>(key) + "/" + std::get<1>(key));
  }
  check_coverage(questions, answered, missing, input, result);
}

void append_task(const std::string& task, const TaskScore& score, io::Json& metrics) {
  metrics.append("per_task/" + task, score.score());
  const auto append = [&](const char* name, io::Json value) { metrics.append(task + "/" + name, std::move(value)); };
  append("accuracy", score.accuracy());
  append("accuracy_plus", score.accuracy_plus());
  append("precision", score.counts.precision());
  append("recall", score.counts.recall());
  append("other", score.other);
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kColumns});
  auto truths = read_truths(input.data.at("benchmark"));
  ScoreResult result;
  const Lines lines = convert(input, truths, result);
  check_answered(truths, input, result);
  const bool complete = result.counts.find("missing")->as_integer() == 0;
  double perception = 0, cognition = 0;
  int64_t num_perception = 0, num_cognition = 0;
  for (const auto& [task, of_task] : lines) {
    const TaskScore score = score_task(of_task, complete);
    append_task(task, score, result.metrics);
    if (std::find(kPerception.begin(), kPerception.end(), task) != kPerception.end())
      perception += score.score(), ++num_perception;
    else if (std::find(kCognition.begin(), kCognition.end(), task) != kCognition.end())
      cognition += score.score(), ++num_cognition;
    else
      result.warnings.push_back(task + " is none of the 14 tasks and counts in no sum");
    if (score.mixed > 0)
      result.warnings.push_back(
          task + ": " + std::to_string(score.mixed) +
          " pairs of consecutive lines are about two images; the official script takes each for one "
          "image: is the file out of order?");
  }
  result.score = perception;
  result.metrics.append("perception", perception);
  result.metrics.append("cognition", cognition);
  result.counts.set("perception_tasks", num_perception);
  result.counts.set("cognition_tasks", num_cognition);
  if (num_perception < static_cast<int64_t>(kPerception.size()))
    result.warnings.push_back("the headline sums " + std::to_string(num_perception) + " of the 10 perception tasks");
  return result;
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions&) {
  return read_llava_questions(data.at("questions"));
}

// Beside the texts, or in the task's folder of pictures.
std::vector<std::string> picture_places(const std::string& image) {
  const std::string task = image.substr(0, image.find('/')), name = image.substr(image.rfind('/') + 1);
  std::vector<std::string> places;
  for (const std::string base : {"MME_Benchmark_release_version/", "MME_Benchmark_release_version/MME_Benchmark/"})
    places.insert(places.end(), {base + image, base + task + "/images/" + name, base + task + "/" + name});
  return places;
}

}  // namespace

Benchmark mme() {
  return {"mme",
          "sum of accuracy and accuracy+ over the perception tasks, at most 2000",
          {{"benchmark", "MME_Benchmark_release_version"}},
          score,
          {{"questions", "llava_mme.jsonl"}},
          questions_of,
          picture_places};
}

}  // namespace vlmamba::tasks
