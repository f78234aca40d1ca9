#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/data/records.h"

namespace vlmamba {

/// What is known of a record without its text.
struct RecordEntry {
  uint64_t begin = 0;      ///< byte of the file
  uint32_t size = 0;       ///< bytes
  uint32_t line = 1;       ///< of the file, from 1
  uint32_t words = 0;      ///< of all turns, as LLaVA counts them to group records of equal length
  uint16_t pictures = 0;   ///< that it names
  uint16_t malformed = 0;  ///< 1: reading it throws
};

/// A record set of any size: a JSON array, or JSON lines in a file called `.jsonl`. One pass finds where the records
/// are; then any of them is read from the disk, one at a time. Memory: an entry a record.
class RecordFile {
 public:
  /// Opens and indexes a file. `cache` names the file that keeps the index between runs; one that is damaged, or
  /// belongs to the file as it was before, is made anew. Empty: none. Throws Error (data) for a file that is no set of
  /// records; a malformed record is only marked.
  explicit RecordFile(std::string path, const std::string& cache = "");
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  const RecordEntry& entry(int64_t number) const { return entries_[static_cast<size_t>(number)]; }

  /// A record, read from the disk. Safe to call from many threads. Throws Error (data) naming file, byte, record and id
  /// for a malformed one, and where the file was changed since it was indexed.
  Record read(int64_t number) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::vector<RecordEntry> entries_;
};

/// The words of a text as Python's str.split() finds them.
int64_t count_words(std::string_view text);

}  // namespace vlmamba
