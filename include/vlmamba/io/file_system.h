#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "vlmamba/core/error.h"

namespace vlmamba::io {

/// The calls through which everything is written. Tests replace it to make any of them fail. Each returns 0 or an
/// errno.
class FileSystem {
 public:
  enum class Open { kEmpty, kAppend };

  virtual ~FileSystem() = default;

  virtual int make_folder(const std::string& path);
  /// Makes the file where there is none.
  virtual int open(const std::string& path, Open how, int& descriptor);
  /// May write less than all, as write(2) does.
  virtual int write(int descriptor, std::string_view bytes, size_t& written);
  virtual int sync(int descriptor);
  virtual int close(int descriptor);
  virtual int rename(const std::string& from, const std::string& to);
  /// Makes the names in a folder last.
  virtual int sync_folder(const std::string& path);
  /// A file, or a folder with all that is in it; what is not there is no failure.
  virtual int remove(const std::string& path);

  /// The one in use.
  static FileSystem& current();
  /// Puts another in its place, or the real one for null. Returns the one before.
  static FileSystem* replace(FileSystem* other);
};

/// What a failed call throws: exit code 6, with the errno for those who can go on without.
class WriteError : public Error {
 public:
  /// "[path] expected to WHAT, got: No space left on device, 17 bytes free".
  WriteError(const std::string& path, const std::string& what, int number);

  int number() const { return number_; }
  bool disk_full() const;

 private:
  int number_;
};

/// Bytes that may still be written where `path` lies.
uint64_t free_bytes(const std::string& path);

/// Makes a folder and those above it, where they are not there yet, and makes them last. Throws WriteError.
void make_folder(const std::string& path);

}  // namespace vlmamba::io
