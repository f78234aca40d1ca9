#include "vlmamba/io/file_system.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

FileSystem* replaced = nullptr;

bool is_disk_full(int number) { return number == ENOSPC || number == EDQUOT; }

std::string reason(const std::string& path, int number) {
  std::string text = std::strerror(number);
  if (is_disk_full(number)) text += ", " + std::to_string(free_bytes(path)) + " bytes free";
  return text;
}

}  // namespace

int FileSystem::make_folder(const std::string& path) {
  std::error_code failed;
  fs::create_directories(path, failed);
  return failed.value();
}

int FileSystem::open(const std::string& path, Open how, int& descriptor) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (how == Open::kEmpty ? O_TRUNC : O_APPEND);
  descriptor = ::open(path.c_str(), flags, 0644);
  return descriptor < 0 ? errno : 0;
}

int FileSystem::write(int descriptor, std::string_view bytes, size_t& written) {
  const ssize_t result = ::write(descriptor, bytes.data(), bytes.size());
  written = result < 0 ? 0 : static_cast<size_t>(result);
  return result < 0 ? errno : 0;
}

int FileSystem::sync(int descriptor) { return ::fsync(descriptor) == 0 ? 0 : errno; }

int FileSystem::close(int descriptor) { return ::close(descriptor) == 0 ? 0 : errno; }

int FileSystem::rename(const std::string& from, const std::string& to) {
  return std::rename(from.c_str(), to.c_str()) == 0 ? 0 : errno;
}

int FileSystem::sync_folder(const std::string& path) {
  const int descriptor = ::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return errno;
  const int result = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  return result;
}

int FileSystem::remove(const std::string& path) {
  std::error_code failed;
  fs::remove_all(path, failed);
  return failed.value();
}

FileSystem& FileSystem::current() {
  static FileSystem real;
  return replaced != nullptr ? *replaced : real;
}

FileSystem* FileSystem::replace(FileSystem* other) { return std::exchange(replaced, other); }

WriteError::WriteError(const std::string& path, const std::string& what, int number)
    : Error(ExitCode::kIo, path, "expected to " + what + ", got: " + reason(path, number)), number_(number) {}

bool WriteError::disk_full() const { return is_disk_full(number_); }

uint64_t free_bytes(const std::string& path) {
  std::error_code failed;
  fs::path place = fs::absolute(path, failed);
  while (!failed && !fs::exists(place) && place.has_relative_path()) place = place.parent_path();
  const auto space = fs::space(place, failed);
  return failed ? 0 : space.available;
}

void make_folder(const std::string& path) {
  std::vector<fs::path> holders;  // of the names that are new
  std::error_code failed;
  for (fs::path place = fs::absolute(path, failed); !fs::exists(place, failed) && place.has_relative_path();
       place = place.parent_path())
    holders.push_back(place.parent_path());
  FileSystem& files = FileSystem::current();
  int failure = files.make_folder(path);
  for (const auto& holder : holders)
    if (failure == 0) failure = files.sync_folder(holder.string());
  if (failure != 0) throw WriteError(path, "make the folder", failure);
}

}  // namespace vlmamba::io
