#include "vlmamba/eval/evaluator.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "src/eval/answer_journal.h"
#include "src/eval/shown_pictures.h"
#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/images/png.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kInputs = "/inputs";

// What names a question among those of its task: everything that its answer depends on.
std::string fingerprint(const TaskQuestion& question, size_t index, const std::string& picture) {
  Json parts = Json::array();
  for (const auto& part : {std::to_string(index), question.id, question.text, question.prompt, picture})
    parts.push(part);
  return io::sha256(parts.to_string());
}

Json to_json(const TaskConfig& config, const TaskResult& result, const ScoreResult& scored) {
  Json json = Json::object();
  json.append("task", config.name);
  json.append("kind", config.kind);
  json.append("protocol", enum_name(config.protocol));
  json.append("image", enum_name(config.image));
  json.append("score", result.score ? Json(*result.score) : Json());
  json.append("num_questions", result.num_questions);
  if (!scored.judge.empty()) json.append("judge", scored.judge);
  json.append("metrics", scored.metrics);
  json.append("counts", scored.counts);
  Json& warnings = json.append("warnings", Json::array());
  for (const auto& warning : scored.warnings) warnings.push(warning);
  return json;
}

}  // namespace

// The questions of one task on their way to answers.
class Evaluator::Asking {
 public:
  Asking(const Options& options, const TaskConfig& config, std::vector<TaskQuestion> questions,
         const Responder& responder, const std::string& evaluation)
      : options_(options),
        config_(config),
        questions_(std::move(questions)),
        responder_(responder),
        shown_(config, questions_, responder),
        folder_(options.folder + "/" + config.name),
        evaluation_(evaluation) {
    shown_.expect_files();
    std::string all = evaluation;
    for (size_t i = 0; i < questions_.size(); ++i) {
      fingerprints_.push_back(fingerprint(questions_[i], i, shown_.name(i)));
      all += fingerprints_.back();
    }
    key_ = io::sha256(all);
  }

  // The texts of all answers, or none if there is more to be done, here or by other processes.
  std::optional<std::vector<std::string>> texts() {
    io::make_folder(folder_);  // before anything is asked: answers that cannot be kept are lost
    if (auto texts = finished()) return texts;
    journal_ = std::make_unique<AnswerJournal>(folder_, options_.shard, evaluation_);
    ask();
    if (options_.stop()) return std::nullopt;
    lock_ = std::make_unique<io::FileLock>(folder_ + "/.lock");
    journal_->reread();
    std::vector<std::string> texts;
    for (const auto& question : fingerprints_)
      if (const std::string* text = journal_->find(question)) texts.push_back(*text);
    if (texts.size() == questions_.size()) return texts;
    const auto missing = std::to_string(questions_.size() - texts.size());
    if (auto others = finished()) return others;
    log::info(config_.name + ": this process's share is done; " + missing + " answers of the others are missing");
    return std::nullopt;
  }

  // Called when everything is written: what was kept for going on is no longer needed.
  void finish() {
    if (journal_) journal_->remove();
  }

  const std::vector<TaskQuestion>& questions() const { return questions_; }
  const std::string& folder() const { return folder_; }
  const std::string& key() const { return key_; }
  double seconds() const { return seconds_; }

 private:
  // The answers of an evaluation of the same checkpoint and questions that was completed before.
  std::optional<std::vector<std::string>> finished() {
    const std::string results = folder_ + "/results.json", answers = folder_ + "/answers.jsonl";
    if (!fs::exists(results) || !fs::exists(answers)) return std::nullopt;
    const Json json = io::read_json(results, ExitCode::kData);
    const Json* key = json.is_object() ? json.find("answers_key") : nullptr;
    if (key == nullptr || !key->is_string() || key->as_string() != key_) return std::nullopt;
    std::vector<std::string> texts;
    for (const auto& answer : read_answers(answers).answers) texts.push_back(answer.text);
    if (texts.size() != questions_.size()) return std::nullopt;
    if (const Json* seconds = json.find("seconds"); seconds && seconds->is_number()) seconds_ = seconds->as_number();
    if (!journal_)
      log::info(config_.name + ": all " + std::to_string(texts.size()) +
                " answers of this checkpoint and config are there, none is asked again");
    return texts;
  }

  // This process's part of the order, without what is answered already.
  std::vector<size_t> own_share() const {
    const auto order = shown_.order();
    const auto edge = [&](int64_t rank) {
      return static_cast<std::ptrdiff_t>(order.size() * static_cast<size_t>(rank) /
                                         static_cast<size_t>(options_.shard.size));
    };
    std::vector<size_t> share(order.begin() + edge(options_.shard.rank), order.begin() + edge(options_.shard.rank + 1));
    const size_t all = share.size();
    std::erase_if(share, [&](size_t question) { return journal_->find(fingerprints_[question]) != nullptr; });
    if (share.size() < all)
      log::info(config_.name + ": " + std::to_string(all - share.size()) + " of " + std::to_string(all) +
                " answers are there from before, the other questions are asked");
    return share;
  }

  void ask() {
    const auto start = std::chrono::steady_clock::now();
    const auto share = own_share();
    log::Progress progress("evaluate " + config_.name, static_cast<int64_t>(share.size()));
    size_t asked = 0;
    int64_t answered = 0;
    const auto next = [&]() -> std::optional<Question> {
      if (asked == share.size()) return std::nullopt;
      const size_t index = share[asked++];
      Question question{questions_[index].id, questions_[index].text, shown_.pictures(index),
                        static_cast<int64_t>(index)};
      if (options_.save_inputs) save_input(question);
      return question;
    };
    responder_.ask(
        options_.batch, next,
        [&](int64_t question, const std::string& text) {
          journal_->append(fingerprints_[static_cast<size_t>(question)], text);
          progress.update(++answered, "questions");
        },
        options_.stop);
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // inputs/NUMBER.json, and the picture under its digest: many questions show the same.
  void save_input(const Question& question) const {
    io::make_folder(folder_ + kInputs);
    const auto ids = responder_.prompt_ids(question);
    Json json = Json::object();
    json.append("question_id", question.id);
    json.append("prompt", responder_.prompt_text(ids));
    Json& list = json.append("ids", Json::array());
    for (const int64_t id : ids) list.push(id);
    Json& pictures = json.append("pictures", Json::array());
    for (const auto& picture : question.pictures) {
      const std::string name = picture->digest.substr(0, 16) + ".png", path = folder_ + kInputs + "/" + name;
      if (!fs::exists(path)) io::write_png(path, responder_.shown(*picture));
      pictures.push(name);
    }
    io::write_file_atomically(folder_ + kInputs + "/" + std::to_string(question.sequence) + ".json",
                              json.to_string(2) + "\n");
  }

  const Options& options_;
  const TaskConfig& config_;
  std::vector<TaskQuestion> questions_;
  const Responder& responder_;
  ShownPictures shown_;
  std::string folder_, evaluation_, key_;
  std::vector<std::string> fingerprints_;
  std::unique_ptr<AnswerJournal> journal_;
  std::unique_ptr<io::FileLock> lock_;
  double seconds_ = 0;
};

Json Evaluator::answer_line(const TaskQuestion& question, const std::string& answer) const {
  Json line = Json::object();
  line.append("question_id",
              question.integer_id ? Json(static_cast<int64_t>(std::stoll(question.id))) : Json(question.id));
  line.append("prompt", question.prompt);
  line.append("text", answer);
  for (const auto& [key, value] : question.extra.members()) line.append(key, value);
  line.append("answer_id", io::sha256(options_.model_id + "\n" + question.id + "\n" + question.prompt).substr(0, 22));
  line.append("model_id", options_.model_id);
  line.append("metadata", Json::object());
  return line;
}

std::optional<TaskResult> Evaluator::run(const TaskConfig& config, const Task& task, const Responder& responder,
                                         const std::string& evaluation) const {
  auto questions = task.questions();
  if (config.limit > 0 && static_cast<size_t>(config.limit) < questions.size())
    questions.resize(static_cast<size_t>(config.limit));
  Asking asking(options_, config, std::move(questions), responder, evaluation);
  const auto texts = asking.texts();
  if (!texts) return std::nullopt;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    io::write_file_atomically(asking.folder() + "/" + name, bytes);
  };
  AnswerFile answers{asking.folder() + "/answers.jsonl", AnswerForm::kLines, options_.model_id, {}, {}};
  std::string lines;
  for (size_t i = 0; i < texts->size(); ++i) {
    const auto& question = asking.questions()[i];
    lines += answer_line(question, (*texts)[i]).to_string() + "\n";
    answers.answers.push_back({question.id, (*texts)[i], question.prompt, std::to_string(i + 1)});
  }
  write("answers.jsonl", lines);
  if (const auto submission = task.submission(answers)) write(submission->name, submission->bytes);
  const ScoreResult scored = task.score(asking.questions(), answers);
  for (const auto& warning : scored.warnings) log::warn(config.name + ": " + warning);
  if (!scored.judge_requests.empty()) write("judge_requests.jsonl", to_batch(scored.judge_requests, scored.judge_call));
  TaskResult result{config.name, scored.score, static_cast<int64_t>(texts->size()), scored.by_category};
  Json json = to_json(config, result, scored);
  json.append("seconds", asking.seconds());
  for (const char* key : {"config_sha256", "checkpoint_sha256", "command"})
    if (const Json* value = options_.provenance.find(key)) json.append(key, *value);
  json.append("answers_key", asking.key());
  json.append("provenance", options_.provenance);
  write("results.json", json.to_string(2) + "\n");
  asking.finish();
  return result;
}

}  // namespace vlmamba
