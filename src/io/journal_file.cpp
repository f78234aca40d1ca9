#include "vlmamba/io/journal_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

int opened(const std::string& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0)
    throw Error(ExitCode::kIo, path, std::string("expected to open the file, got: ") + std::strerror(errno));
  return descriptor;
}

}  // namespace

JournalFile::JournalFile(const std::string& path, size_t kept)
    : path_(path), descriptor_(opened(path, O_WRONLY | O_APPEND)), synced_(std::chrono::steady_clock::now()) {
  if (::ftruncate(descriptor_, static_cast<off_t>(kept)) == 0) return;
  const int failure = errno;
  ::close(descriptor_);
  throw Error(ExitCode::kIo, path, std::string("expected to cut the file, got: ") + std::strerror(failure));
}

JournalFile::~JournalFile() {
  ::fdatasync(descriptor_);
  ::close(descriptor_);
}

void JournalFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      throw Error(ExitCode::kIo, path_,
                  "expected to append " + std::to_string(bytes.size()) + " bytes, got: " + std::strerror(errno));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  const auto now = std::chrono::steady_clock::now();
  if (now - synced_ < std::chrono::seconds(1)) return;
  ::fdatasync(descriptor_);
  synced_ = now;
}

FileLock::FileLock(const std::string& path) : descriptor_(opened(path, O_RDWR)) {
  while (::flock(descriptor_, LOCK_EX) != 0)
    if (errno != EINTR) {
      const int failure = errno;
      ::close(descriptor_);
      throw Error(ExitCode::kIo, path, std::string("expected to lock the file, got: ") + std::strerror(failure));
    }
}

FileLock::~FileLock() { ::close(descriptor_); }

}  // namespace vlmamba::io
