#include "src/eval/tasks/tasks.h"

#include <algorithm>

namespace vlmamba {
namespace {

constexpr size_t kMostNamed = 8;

std::string plural(int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// Answers to questions of another benchmark may carry ids that exist here too, but hardly the same words.
void expect_own_prompts(const std::vector<tasks::Asked>& questions, const std::vector<const Answer*>& answers,
                        const AnswerFile& file) {
  const Answer* stranger = nullptr;
  for (size_t i = 0; i < questions.size(); ++i) {
    if (answers[i] == nullptr || answers[i]->prompt.empty() || questions[i].text.empty()) continue;
    if (answers[i]->prompt.find(questions[i].text) != std::string::npos) return;
    if (stranger == nullptr) stranger = answers[i];
  }
  if (stranger)
    throw Error(ExitCode::kData, place_of(file, *stranger),
                "expected answers to this benchmark's questions; no prompt of the file contains its question, this one "
                "asks \"" +
                    stranger->prompt.substr(0, 80) + "\": is it the answers file of another benchmark?");
}

}  // namespace

const std::vector<Benchmark>& benchmarks() {
  static const std::vector<Benchmark> all{tasks::vqav2(), tasks::gqa(), tasks::scienceqa(), tasks::textvqa(),
                                          tasks::pope(),  tasks::mme(), tasks::mmbench(),   tasks::mmvet()};
  return all;
}

namespace tasks {

void check_coverage(int64_t questions, int64_t answered, const std::vector<std::string>& missing,
                    const ScoreInput& input, ScoreResult& result) {
  result.counts.set("questions", questions);
  result.counts.set("answered", answered);
  result.counts.set("missing", static_cast<int64_t>(missing.size()));
  if (missing.empty() || input.allow_partial) return;
  std::string named;
  for (size_t i = 0; i < std::min(missing.size(), kMostNamed); ++i) named += (i ? ", " : "") + missing[i];
  if (missing.size() > kMostNamed) named += ", …";
  throw Error(ExitCode::kData, input.answers.path,
              "expected answers to all " + plural(questions, "question") + ", got " + std::to_string(answered) +
                  "; missing " + std::to_string(missing.size()) + ": " + named +
                  "\n--allow-partial scores the file all the same, as the official script counts missing answers");
}

std::vector<const Answer*> match_answers(const std::vector<Asked>& questions, const ScoreInput& input,
                                         ScoreResult& result) {
  std::unordered_map<std::string_view, size_t> index;
  for (size_t i = 0; i < questions.size(); ++i) index.emplace(questions[i].id, i);
  std::vector<const Answer*> matched(questions.size(), nullptr);
  const Answer* unknown = nullptr;
  int64_t num_unknown = 0;
  for (const auto& answer : input.answers.answers) {
    const auto found = index.find(answer.id);
    if (found == index.end()) {
      if (num_unknown++ == 0) unknown = &answer;
    } else if (const Answer*& place = matched[found->second]; place == nullptr) {
      place = &answer;
    } else {
      throw Error(ExitCode::kData, place_of(input.answers, answer),
                  "question_id: expected each id once, got " + answer.id + " again after line " + place->where);
    }
  }
  if (unknown)
    throw Error(ExitCode::kData, place_of(input.answers, *unknown),
                "question_id: expected one of the " + plural(static_cast<int64_t>(questions.size()), "question") +
                    ", got " + unknown->id + " (" + plural(num_unknown, "unknown id") +
                    " in the file); is it the answers file of another benchmark or split?");
  expect_own_prompts(questions, matched, input.answers);
  std::vector<std::string> missing;
  int64_t needed = 0;
  for (size_t i = 0; i < questions.size(); ++i) {
    if (!questions[i].needed) continue;
    ++needed;
    if (matched[i] == nullptr) missing.push_back(questions[i].id);
  }
  check_coverage(needed, needed - static_cast<int64_t>(missing.size()), missing, input, result);
  return matched;
}

void give_credit(const Answer& answer, double value, const ScoreInput& input, ScoreResult& result) {
  result.credits.resize(input.answers.answers.size());
  result.credits[static_cast<size_t>(&answer - input.answers.answers.data())] = value;
}

void expect_form(const AnswerFile& answers, const std::vector<AnswerForm>& forms) {
  if (std::find(forms.begin(), forms.end(), answers.form) != forms.end()) return;
  const auto name = [](AnswerForm form) -> std::string {
    switch (form) {
      case AnswerForm::kLines:
        return "answer lines {\"question_id\", \"prompt\", \"text\"}";
      case AnswerForm::kResults:
        return "a result list";
      case AnswerForm::kMap:
        return "an object from id to text";
      case AnswerForm::kGrades:
        return "a judge's grades";
      case AnswerForm::kColumns:
        return "a folder of MME's {task}.txt";
    }
    return "?";
  };
  std::string wanted;
  for (const auto form : forms) wanted += (wanted.empty() ? "" : " or ") + name(form);
  throw Error(ExitCode::kData, answers.path, "expected " + wanted + ", got " + name(answers.form));
}

std::string id_text(const io::Json& object, std::string_view key, const std::string& path, int64_t line) {
  const io::Json* id = object.is_object() ? object.find(key) : nullptr;
  if (id && id->is_string()) return id->as_string();
  if (id && id->is_integer()) return std::to_string(id->as_integer());
  throw Error(ExitCode::kData, path + ":" + std::to_string(line),
              std::string(key) + ": expected a string or an integer, got " + (id ? id->to_string() : "none"));
}

const std::string& text_of(const io::Json& object, std::string_view key, const std::string& path) {
  return io::require(object, key, io::Json::Kind::kString, path, ExitCode::kData).as_string();
}

void append_percents(const std::string& prefix, const Means& means, io::Json& metrics) {
  for (const auto& [name, mean] : means) metrics.append(prefix + "/" + name, mean.percent());
}

}  // namespace tasks
}  // namespace vlmamba
