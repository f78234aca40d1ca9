#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// A regular file in memory, read only. Pages are read when they are touched and can be given back, so that a file
/// much larger than the memory left can be copied from.
class MappedFile {
 public:
  /// Throws Error (weights) for anything but a regular file; nothing is opened that could block.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::string_view bytes() const { return {static_cast<const char*>(mapping_), size_}; }

  /// Gives back the pages that lie wholly between these bytes.
  void release(uint64_t begin, uint64_t end) const;
  /// Throws Error (weights) if the file was written to since it was opened.
  void check_unchanged() const;

 private:
  std::string path_;
  int descriptor_ = -1;
  void* mapping_ = nullptr;
  size_t size_ = 0;
  std::timespec modified_{};
};

}  // namespace vlmamba::io
