#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "vlmamba/io/file_system.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::io {

/// Takes the next bytes of something long.
using Sink = std::function<void(std::string_view)>;

/// What a file will hold, made piece by piece, so that weights need not lie in memory a second time.
struct Content {
  uint64_t bytes;
  std::function<void(const Sink&)> write;  ///< gives the same bytes each time it is called
};

Content content_of(std::string bytes);
std::string sha256(const Content& content);

/// A file that is written anew, in pieces, and hashed on the way. Throws WriteError; a file that was not finished may
/// be left behind.
class FileWriter {
 public:
  explicit FileWriter(std::string path);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::string_view bytes);
  /// Syncs and closes. Returns the SHA-256 of all bytes.
  std::string finish();

 private:
  std::string path_;
  int descriptor_ = -1;
  Sha256 hash_;
};

/// Lines that are added to a log. What a full disk refuses is kept, and written before the next line, so that a run can
/// go on and its log still has no hole.
class AppendFile {
 public:
  /// Throws WriteError.
  explicit AppendFile(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// True if all of it, and of what was kept, is in the file.
  bool append(std::string_view bytes);
  /// Makes what was appended last. False if that, or something that was kept, fails.
  bool sync();
  /// The same at the end. Throws WriteError.
  void finish();

 private:
  int write_kept();

  std::string path_, kept_;
  int descriptor_ = -1;
};

}  // namespace vlmamba::io
