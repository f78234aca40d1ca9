#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "vlmamba/core/error.h"

namespace vlmamba::io {

/// A regular file in memory, read only. Pages are read when they are touched and can be given back, so that a file
/// much larger than the memory left can be copied from.
class MappedFile {
 public:
  /// Throws Error(code), as everything here does, for anything but a regular file; nothing is opened that could block.
  explicit MappedFile(const std::string& path, ExitCode code = ExitCode::kWeights);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  /// When it was last written to, in nanoseconds since 1970.
  int64_t modified() const { return int64_t{modified_.tv_sec} * 1'000'000'000 + modified_.tv_nsec; }
  std::string_view bytes() const { return {static_cast<const char*>(mapping_), size_}; }

  /// Gives back the pages that lie wholly between these bytes.
  void release(uint64_t begin, uint64_t end) const;
  /// Throws if the file was written to since it was opened.
  void check_unchanged() const;

 private:
  [[noreturn]] void refuse(const std::string& message) const { throw Error(code_, path_, message); }

  std::string path_;
  ExitCode code_;
  int descriptor_ = -1;
  void* mapping_ = nullptr;
  size_t size_ = 0;
  std::timespec modified_{};
};

}  // namespace vlmamba::io
