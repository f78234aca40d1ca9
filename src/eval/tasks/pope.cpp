#include <array>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/yes_no.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;
constexpr std::array<const char*, 3> kCategories{"adversarial", "popular", "random"};

struct Label {
  std::string image, text;
  bool yes;
};

struct QuestionFile {
  std::vector<Asked> asked;
  std::unordered_map<std::string, std::string> category, image;  // by id
};

QuestionFile read_questions(const std::string& path) {
  QuestionFile file;
  io::for_each_line(io::read_file(path, kCode), path, kCode, [&](const Json& json, int64_t line) {
    const std::string id = id_text(json, "question_id", path, line);
    const std::string& text = text_of(json, "text", path);
    if (!file.category.emplace(id, text_of(json, "category", path)).second)
      throw Error(kCode, path + ":" + std::to_string(line), "question_id: expected each once, got " + id + " again");
    if (const Json* image = json.find("image"); image && image->is_string()) file.image[id] = image->as_string();
    file.asked.push_back({id, text.substr(0, text.find('\n'))});
  });
  return file;
}

std::vector<Label> read_labels(const std::string& path) {
  std::vector<Label> labels;
  io::for_each_line(io::read_file(path, kCode), path, kCode, [&](const Json& json, int64_t) {
    const Json* image = json.find("image");
    const Json* text = json.find("text");
    labels.push_back({image && image->is_string() ? image->as_string() : "",
                      text && text->is_string() ? text->as_string() : "", text_of(json, "label", path) != "no"});
  });
  return labels;
}

// Labels belong to answers by position. Nothing in the numbers would show that they are out of step, so it is said.
void warn_if_out_of_step(const std::string& category, const std::vector<const Answer*>& answers,
                         const std::vector<Label>& labels, const QuestionFile& questions, ScoreResult& result) {
  int64_t out_of_step = 0;
  for (size_t i = 0; i < std::min(answers.size(), labels.size()); ++i) {
    const auto image = questions.image.find(answers[i]->id);
    out_of_step +=
        !labels[i].image.empty() && image != questions.image.end() && image->second != labels[i].image ? 1 : 0;
  }
  result.counts.set("out_of_step/" + category, out_of_step);
  if (out_of_step > 0)
    result.warnings.push_back(
        category + ": " + std::to_string(out_of_step) +
        " answers are about another picture than the label at their position; the official script "
        "pairs them all the same: is the file out of order, or from other questions?");
  if (answers.size() != labels.size())
    result.warnings.push_back(category + ": " + std::to_string(answers.size()) + " answers, " +
                              std::to_string(labels.size()) + " labels; the first are paired");
}

// lmms-eval accepts nothing but the words themselves.
YesNo read_answer(const Answer& answer, Protocol protocol) {
  return protocol == Protocol::kLmmsEval ? exact_yes_no(answer.text) : pope_answer(answer.text);
}

// lmms-eval takes the share of yes from the labels.
double append_category(const std::string& category, const std::vector<const Answer*>& answers,
                       const std::vector<Label>& labels, Protocol protocol, Json& metrics) {
  const bool strict = protocol == Protocol::kLmmsEval;
  YesNoCounts counts;
  int64_t yes = 0, labels_paired = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const bool labelled = i < labels.size();
    const YesNo answer = read_answer(*answers[i], protocol);
    yes += (strict ? labelled && labels[i].yes : answer == YesNo::kYes) ? 1 : 0;
    labels_paired += labelled ? 1 : 0;
    // An answer that is neither is wrong, but no yes and no no.
    if (labelled && answer != YesNo::kOther) counts.add(answer, labels[i].yes);
  }
  const int64_t right = counts.true_positive + counts.true_negative;
  const auto append = [&](const char* name, Json value) { metrics.append(category + "/" + name, std::move(value)); };
  append("answers", static_cast<int64_t>(answers.size()));
  append("TP", counts.true_positive);
  append("FP", counts.false_positive);
  append("TN", counts.true_negative);
  append("FN", counts.false_negative);
  append("accuracy", labels_paired == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(labels_paired));
  append("precision", counts.precision());
  append("recall", counts.recall());
  append("f1", counts.f1());
  append("yes_ratio", answers.empty() ? 0.0 : static_cast<double>(yes) / static_cast<double>(answers.size()));
  return counts.f1();
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kResults, AnswerForm::kMap});
  const auto questions = read_questions(input.data.at("questions"));
  ScoreResult result;
  match_answers(questions.asked, input, result);
  std::map<std::string, std::vector<const Answer*>> by_category;  // in the order of the answers file
  for (const auto& answer : input.answers.answers) by_category[questions.category.at(answer.id)].push_back(&answer);
  double sum = 0;
  for (const std::string category : kCategories) {
    const auto labels = read_labels(input.data.at(category + " labels"));
    const auto& answers = by_category[category];
    warn_if_out_of_step(category, answers, labels, questions, result);
    sum += append_category(category, answers, labels, input.protocol, result.metrics);
    for (size_t i = 0; i < std::min(answers.size(), labels.size()); ++i) {
      const YesNo wanted = labels[i].yes ? YesNo::kYes : YesNo::kNo;
      give_credit(*answers[i], read_answer(*answers[i], input.protocol) == wanted ? 1 : 0, input, result);
    }
  }
  result.score = 100 * sum / static_cast<double>(kCategories.size());
  result.metrics.append("mean_f1_percent", *result.score);
  return result;
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions&) {
  return read_llava_questions(data.at("questions"));
}

std::vector<std::string> picture_places(const std::string& image) { return {"val2014/" + image, image}; }

}  // namespace

Benchmark pope() {
  return {"pope",
          "mean F1 of the three categories, in percent",
          {{"questions", "llava_pope_test.jsonl"},
           {"adversarial labels", "{,coco/,output/coco/}coco_pope_adversarial.json"},
           {"popular labels", "{,coco/,output/coco/}coco_pope_popular.json"},
           {"random labels", "{,coco/,output/coco/}coco_pope_random.json"}},
          score,
          {{"questions", "llava_pope_test.jsonl"}},
          questions_of,
          picture_places};
}

}  // namespace vlmamba::tasks
