#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "vlmamba/eval/evaluator.h"
#include "vlmamba/io/journal_file.h"

namespace vlmamba {

/// The answers of a task that is not finished, as they come: FOLDER/answers.partial-RANK-of-SIZE.jsonl, one file a
/// process. The first line names what the answers depend on beside their questions, every other one a question and its
/// answer. A line that was not written to its end is dropped.
class AnswerJournal {
 public:
  /// Reads what all processes have left. Files of another evaluation count for nothing, and this process's own is begun
  /// anew; both are said. Throws Error (kIo).
  AnswerJournal(std::string folder, const Shard& shard, const std::string& evaluation);

  /// The answer to a question by its fingerprint, or null.
  const std::string* find(const std::string& question) const;
  void append(const std::string& question, const std::string& text);

  /// Reads again what the other processes have left.
  void reread();
  /// Removes the files of all processes.
  void remove();

 private:
  // How many bytes of the file belong to this evaluation; its answers are remembered.
  size_t read(const std::string& path);

  std::string folder_, path_, header_;
  std::unordered_map<std::string, std::string> answers_;
  std::unique_ptr<io::JournalFile> file_;
};

}  // namespace vlmamba
