#include "vlmamba/io/atomic_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace vlmamba::io {

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

void rename_synced(const std::string& from, const std::string& to) {
  FileSystem& files = FileSystem::current();
  int failure = files.rename(from, to);
  if (failure == 0) failure = files.sync_folder(std::filesystem::path(to).parent_path().string());
  if (failure != 0) throw WriteError(to, "rename what was written", failure);
}

void write_file_atomically(const std::string& path, std::string_view bytes) {
  write_file_atomically(path, Content{bytes.size(), [&](const Sink& sink) { sink(bytes); }});
}

void write_file_atomically(const std::string& path, const Content& content) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status))
    throw Error(ExitCode::kIo, path, "expected a file, or none yet, got something else");
  // What a link names is replaced, not the link.
  const std::string target =
      std::filesystem::exists(status) ? std::filesystem::canonical(path, ignored).string() : path;
  const std::string temporary = target + ".tmp-" + std::to_string(::getpid());
  try {
    FileWriter file(temporary);
    content.write([&](std::string_view bytes) { file.write(bytes); });
    file.finish();
    rename_synced(temporary, target);
  } catch (const WriteError& error) {
    FileSystem::current().remove(temporary);
    throw WriteError(path, "write " + std::to_string(content.bytes) + " bytes", error.number());
  }
}

}  // namespace vlmamba::io
