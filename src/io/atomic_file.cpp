#include "vlmamba/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

namespace vlmamba::io {
namespace {

FileSystem* replaced = nullptr;

int sync_folder_of(const std::string& path) {
  auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return errno;
  const int result = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  return result;
}

int write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return ::fsync(descriptor) == 0 ? 0 : errno;
}

}  // namespace

int FileSystem::write_synced(const std::string& path, std::string_view bytes) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return errno;
  const int result = write_all(descriptor, bytes);
  const int closed = ::close(descriptor) == 0 ? 0 : errno;
  return result != 0 ? result : closed;
}

int FileSystem::rename(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return errno;
  return sync_folder_of(to);
}

FileSystem& FileSystem::current() {
  static FileSystem real;
  return replaced != nullptr ? *replaced : real;
}

FileSystem* FileSystem::replace(FileSystem* other) { return std::exchange(replaced, other); }

void make_folder(const std::string& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed) throw Error(ExitCode::kIo, path, "expected to make the folder, got: " + failed.message());
}

std::string read_file(const std::string& path, ExitCode code) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (!std::filesystem::exists(status)) throw Error(code, path, "expected a file, got no such file");
  if (!std::filesystem::is_regular_file(status)) throw Error(code, path, "expected a file, got something else");
  std::ifstream file(path, std::ios::binary);
  std::string bytes(static_cast<size_t>(std::filesystem::file_size(path, failed)), '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw Error(code, path, "expected a file that can be read, got " + std::string(std::strerror(errno)));
  return bytes;
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(ExitCode::kIo, path, "expected a file, or none yet, got something else");
  // What a link names is replaced, not the link.
  const std::string target =
      std::filesystem::exists(status) ? std::filesystem::canonical(path, ignored).string() : path;
  const std::string temporary = target + ".tmp-" + std::to_string(::getpid());
  FileSystem& files = FileSystem::current();
  int failure = files.write_synced(temporary, bytes);
  if (failure == 0) failure = files.rename(temporary, target);
  if (failure == 0) return;
  std::filesystem::remove(temporary, ignored);
  throw Error(ExitCode::kIo, path,
              "expected to write " + std::to_string(bytes.size()) + " bytes, got: " + std::strerror(failure));
}

}  // namespace vlmamba::io
