#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba::tasks {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;
constexpr const char* kIcelandAndGreenland =
    "Can you explain this meme? | This meme is poking fun at the fact that the names of the countries Iceland and "
    "Greenland are misleading. Despite its name, Iceland is known for its beautiful green landscapes, while Greenland "
    "is "
    "mostly covered in ice and snow. The meme is saying that the person has trust issues because the names of these "
    "countries do not accurately represent their landscapes. | ";

struct Item {
  std::string id, question, answer;
  std::vector<std::string> capabilities;  // sorted
};

std::vector<Item> read_items(const std::string& path) {
  std::vector<Item> items;
  io::for_each_member(io::read_file(path, kCode), path, kCode, [&](const std::string& id, const Json& json, int64_t) {
    Item item{id, text_of(json, "question", path), text_of(json, "answer", path), {}};
    for (const Json& capability : io::require(json, "capability", Json::Kind::kArray, path, kCode).items())
      if (capability.is_string()) item.capabilities.push_back(capability.as_string());
    std::sort(item.capabilities.begin(), item.capabilities.end());
    items.push_back(std::move(item));
  });
  return items;
}

// The official evaluator's question to its judge.
std::string judge_prompt(const Item& item, const std::string& answer) {
  const std::string truth = unicode::replaced(unicode::replaced(item.answer, "<AND>", " <AND> "), "<OR>", " <OR> ");
  return std::string(
             "Compare the ground truth and prediction from AI models, to give a correctness score for the prediction. "
             "<AND> in the ground truth means it is totally right only when all elements in the ground truth are "
             "present "
             "in the prediction, and <OR> means it is totally right when any one element in the ground truth is "
             "present "
             "in the prediction. The correctness score is 0.0 (totally wrong), 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, "
             "0.9, or 1.0 (totally right). Just complete the last space of the correctness score.\n\n"
             "Question | Ground truth | Prediction | Correctness\n--- | --- | --- | ---\n"
             "What is x in the equation? | -1 <AND> -5 | x = 3 | 0.0\n"
             "What is x in the equation? | -1 <AND> -5 | x = -1 | 0.5\n"
             "What is x in the equation? | -1 <AND> -5 | x = -5 | 0.5\n"
             "What is x in the equation? | -1 <AND> -5 | x = -5 or 5 | 0.5\n"
             "What is x in the equation? | -1 <AND> -5 | x = -1 or x = -5 | 1.0\n") +
         kIcelandAndGreenland +
         "The meme talks about Iceland and Greenland. It's pointing out that despite their names, Iceland is not very "
         "icy "
         "and Greenland isn't very green. | 0.4\n" +
         kIcelandAndGreenland +
         "The meme is using humor to point out the misleading nature of Iceland's and Greenland's names. Iceland, "
         "despite "
         "its name, has lush green landscapes while Greenland is mostly covered in ice and snow. The text 'This is why "
         "I "
         "have trust issues' is a playful way to suggest that these contradictions can lead to distrust or confusion. "
         "The "
         "humor in this meme is derived from the unexpected contrast between the names of the countries and their "
         "actual "
         "physical characteristics. | 1.0\n\n" +
         item.question + " | " + truth + " | " + answer + " | ";
}

std::vector<std::string> parts_of(const std::string& text, std::string_view separator) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t found; (found = text.find(separator, at)) != std::string::npos; at = found + separator.size())
    parts.push_back(text.substr(at, found - at));
  parts.push_back(text.substr(at));
  return parts;
}

// All parts of one alternative stand in the answer, in any case.
bool contains_truth(const std::string& answer, const std::string& truth) {
  const std::string small = unicode::lower(answer);
  for (const auto& alternative : parts_of(truth, "<OR>")) {
    const auto parts = parts_of(alternative, "<AND>");
    if (std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
          return small.find(unicode::lower(unicode::strip(part))) != std::string::npos;
        }))
      return true;
  }
  return false;
}

// As numpy rounds.
double rounded(double value, double scale) { return std::nearbyint(value * scale) / scale; }

// A number for every run.
using Runs = std::vector<double>;

double mean(const Runs& runs) {
  double sum = 0;
  for (const double value : runs) sum += value;
  return sum / static_cast<double>(runs.size());
}

double deviation(const Runs& runs) {
  double sum = 0;
  for (const double value : runs) sum += (value - mean(runs)) * (value - mean(runs));
  return std::sqrt(sum / static_cast<double>(runs.size()));
}

// Percent of each run over the items that `belongs` chooses; an item without grades counts 0.
template <typename Belongs>
Runs percents(const std::vector<Item>& items, const std::vector<const std::vector<double>*>& scores, size_t num_runs,
              const Belongs& belongs) {
  Runs sums(num_runs, 0.0);
  double count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!belongs(items[i])) continue;
    ++count;
    for (size_t run = 0; run < num_runs && scores[i]; ++run) sums[run] += (*scores[i])[run];
  }
  for (double& sum : sums) sum = sum / count * 100;
  return sums;
}

void append_scores(const std::vector<Item>& items, const std::vector<const std::vector<double>*>& scores,
                   size_t num_runs, ScoreResult& result) {
  const Runs total = percents(items, scores, num_runs, [](const Item&) { return true; });
  Json& metrics = result.metrics;
  for (size_t run = 0; run < num_runs; ++run) metrics.append("runs/" + std::to_string(run), rounded(total[run], 1e4));
  for (size_t run = 0; run < num_runs; ++run)
    metrics.append("runs_1dp/" + std::to_string(run), rounded(total[run], 10));
  metrics.append("total", rounded(mean(total), 10));
  metrics.append("total_unrounded", mean(total));
  metrics.append("std", rounded(deviation(total), 10));
  std::set<std::string> names;
  std::set<std::vector<std::string>> sets;
  for (const auto& item : items) {
    names.insert(item.capabilities.begin(), item.capabilities.end());
    sets.insert(item.capabilities);
  }
  for (const auto& name : names)
    metrics.append("capability/" + name, rounded(mean(percents(items, scores, num_runs,
                                                               [&](const Item& item) {
                                                                 return std::find(item.capabilities.begin(),
                                                                                  item.capabilities.end(),
                                                                                  name) != item.capabilities.end();
                                                               })),
                                                 10));
  for (const auto& set : sets) {
    std::string joined;
    for (const auto& name : set) joined += (joined.empty() ? "" : "_") + name;
    metrics.append(
        "capability_set/" + joined,
        rounded(mean(percents(items, scores, num_runs, [&](const Item& item) { return item.capabilities == set; })),
                10));
  }
  result.score = rounded(mean(total), 10);
}

ScoreResult score_grades(const std::vector<Item>& items, std::vector<Grade> grades, const ScoreInput& input) {
  ScoreInput as_answers{input.data, {input.answers.path, AnswerForm::kGrades, {}, {}, {}}, {}, input.allow_partial};
  for (const auto& grade : grades) as_answers.answers.answers.push_back({grade.id, {}, {}, std::to_string(grade.line)});
  std::vector<Asked> asked;
  for (const auto& item : items) asked.push_back({item.id});
  ScoreResult result;
  const auto matched = match_answers(asked, as_answers, result);
  const auto& first = as_answers.answers.answers.front();
  std::set<std::string> judges;
  std::vector<const std::vector<double>*> scores;
  for (const Answer* answer : matched) {
    const Grade* grade = answer ? &grades[static_cast<size_t>(answer - &first)] : nullptr;
    scores.push_back(grade ? &grade->scores : nullptr);
    if (grade == nullptr) continue;
    judges.insert(grade->judges.begin(), grade->judges.end());
    if (grade->scores.size() != grades[0].scores.size() || grade->scores.empty())
      throw Error(kCode, place_of(input.answers, *answer),
                  grade->id + ": expected " + std::to_string(grades[0].scores.size()) +
                      " runs as at the first answer, at least one, got " + std::to_string(grade->scores.size()));
  }
  if (judges.size() > 1)
    throw Error(
        kCode, input.answers.path,
        "expected one judge, whose grades can be compared, got " + *judges.begin() + " and " + *judges.rbegin());
  result.judge = judges.empty() ? "unnamed" : *judges.begin();
  append_scores(items, scores, grades[0].scores.size(), result);
  return result;
}

// The official evaluator takes the first word, and 0 where it is no number in 0..1.
double grade_of(const std::string& words) {
  const std::string word = words.substr(0, words.find(' '));
  const std::string number(unicode::strip(word));
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  return error == std::errc() && end == number.data() + number.size() && value >= 0 && value <= 1 ? value : 0;
}

// Answers alone: what rules can say, and what a judge has to be asked.
ScoreResult score_answers(const std::vector<Item>& items, const ScoreInput& input) {
  ScoreInput renamed = input;
  if (input.answers.form != AnswerForm::kMap)
    for (auto& answer : renamed.answers.answers)
      if (!answer.id.starts_with("v1_")) answer.id.insert(0, "v1_");
  std::vector<Asked> asked;
  for (const auto& item : items) asked.push_back({item.id, item.question});
  ScoreResult result;
  const auto matched = match_answers(asked, renamed, result);
  Mean contained;
  std::vector<Grade> grades;
  for (size_t i = 0; i < items.size(); ++i) {
    const double holds = matched[i] && contains_truth(matched[i]->text, items[i].answer) ? 1 : 0;
    contained.add(holds);
    if (matched[i] == nullptr) continue;
    const auto judged = input.judgements.find(items[i].id);
    if (judged != input.judgements.end())
      grades.push_back({items[i].id, {judged->second.judge}, {grade_of(judged->second.text)}, 0});
    else
      result.judge_requests.push_back({items[i].id, judge_prompt(items[i], matched[i]->text)});
    // Rules and a judge's grades are never mixed.
    if (input.judgements.empty())
      give_credit(*matched[i], holds, renamed, result);
    else if (judged != input.judgements.end())
      give_credit(*matched[i], grades.back().scores[0], renamed, result);
  }
  if (!grades.empty()) {
    ScoreResult single = std::move(result);
    result = score_grades(items, std::move(grades), input);
    result.judge_requests = std::move(single.judge_requests);
    result.credits = std::move(single.credits);
  } else {
    result.judge = "rules";
    result.warnings.push_back("only a judge's grades give the headline");
  }
  result.judge_call = {"gpt-4-0613", 3};
  result.metrics.append("rules/contains_answer", contained.percent());
  return result;
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kGrades, AnswerForm::kLines, AnswerForm::kMap, AnswerForm::kResults});
  const auto items = read_items(input.data.at("metadata"));
  return input.answers.form == AnswerForm::kGrades ? score_grades(items, input.answers.grades, input)
                                                   : score_answers(items, input);
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions& options) {
  constexpr const char* kReasonFirst =
      "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n";
  return read_llava_questions(data.at("questions"), [&](const Json&, TaskQuestion& question) {
    if (options.protocol == Protocol::kLmmsEval) question.text = question.prompt = kReasonFirst + question.text;
  });
}

std::vector<std::string> picture_places(const std::string& image) { return {"images/" + image, image}; }

// What the web evaluator takes: {"v1_0": text, …}.
std::optional<Submission> submission_of(const DataFiles&, const AnswerFile& answers) {
  Json object = Json::object();
  for (const auto& answer : answers.answers) object.append("v1_" + answer.id, answer.text);
  return Submission{"submission.json", object.to_string(2) + "\n"};
}

}  // namespace

Benchmark mmvet() {
  return {"mmvet",
          "mean of the judge's grades, in percent, one decimal",
          {{"metadata", "mm-vet.json"}},
          score,
          {{"questions", "llava-mm-vet.jsonl"}},
          questions_of,
          picture_places,
          1024,
          submission_of};
}

}  // namespace vlmamba::tasks
