#include "src/eval/answer_journal.h"

#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kPrefix = "answers.partial-";

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with(kPrefix)) files.push_back(entry.path().string());
  return files;
}

std::optional<std::pair<std::string, std::string>> parse(const std::string& line, const std::string& path) try {
  const Json json = io::parse_json(line, path, ExitCode::kData);
  const auto text = [&](const char* key) {
    return io::require(json, key, Json::Kind::kString, path, ExitCode::kData).as_string();
  };
  return std::pair(text("question"), text("text"));
} catch (const Error&) {
  return std::nullopt;
}

}  // namespace

AnswerJournal::AnswerJournal(std::string folder, const Shard& shard, const std::string& evaluation)
    : folder_(std::move(folder)) {
  path_ = folder_ + "/" + kPrefix + std::to_string(shard.rank) + "-of-" + std::to_string(shard.size) + ".jsonl";
  Json header = Json::object();
  header.set("evaluation", evaluation);
  header_ = header.to_string() + "\n";
  const size_t kept = fs::exists(path_) ? read(path_) : 0;
  reread();
  file_ = std::make_unique<io::JournalFile>(path_, kept);
  if (kept == 0) file_->append(header_);
}

size_t AnswerJournal::read(const std::string& path) {
  std::string text = io::read_file(path, ExitCode::kIo);
  text.resize(text.rfind('\n') + 1);  // npos + 1 is 0
  if (!text.starts_with(header_)) {
    if (!text.empty())
      log::warn("[" + path +
                "] holds answers of another checkpoint, config or version: they are not used, the questions are asked "
                "anew");
    return 0;
  }
  size_t whole = header_.size();
  for (size_t end = text.find('\n', whole); end != std::string::npos; end = text.find('\n', whole)) {
    const auto entry = parse(text.substr(whole, end - whole), path);
    if (!entry) {
      log::warn("[" + path + "] byte " + std::to_string(whole) +
                ": expected a question and its answer, got something else; from there on questions are asked again");
      break;
    }
    answers_.insert_or_assign(entry->first, entry->second);
    whole = end + 1;
  }
  return whole;
}

const std::string* AnswerJournal::find(const std::string& question) const {
  const auto found = answers_.find(question);
  return found == answers_.end() ? nullptr : &found->second;
}

void AnswerJournal::append(const std::string& question, const std::string& text) {
  Json line = Json::object();
  line.append("question", question);
  line.append("text", text);
  file_->append(line.to_string() + "\n");
  answers_[question] = text;
}

void AnswerJournal::reread() {
  for (const auto& path : files_in(folder_))
    if (path != path_) read(path);
}

void AnswerJournal::remove() {
  file_.reset();
  for (const auto& path : files_in(folder_)) fs::remove(path);
}

}  // namespace vlmamba
