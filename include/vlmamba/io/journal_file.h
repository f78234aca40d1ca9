#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// Bytes behind those that a file has. They survive the end of the program at once, and that of the machine after a
/// second.
class JournalFile {
 public:
  /// Keeps the first `kept` bytes of the file, which need not exist. Throws Error (kIo).
  JournalFile(const std::string& path, size_t kept);
  ~JournalFile();
  JournalFile(const JournalFile&) = delete;
  JournalFile& operator=(const JournalFile&) = delete;

  /// Throws Error (kIo).
  void append(std::string_view bytes);

 private:
  std::string path_;
  int descriptor_;
  std::chrono::steady_clock::time_point synced_;
};

/// Keeps other programs that ask for the same lock waiting while it lives.
class FileLock {
 public:
  /// Throws Error (kIo).
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace vlmamba::io
