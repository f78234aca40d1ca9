#include "vlmamba/io/file_writer.h"

#include <cerrno>
#include <filesystem>
#include <utility>

namespace vlmamba::io {
namespace {

// Writes all bytes, or what can be written: `bytes` is then what is left.
int write_all(int descriptor, std::string_view& bytes) {
  while (!bytes.empty()) {
    size_t written = 0;
    const int failure = FileSystem::current().write(descriptor, bytes, written);
    bytes.remove_prefix(written);
    if (failure != 0 && failure != EINTR) return failure;
  }
  return 0;
}

int open(const std::string& path, FileSystem::Open how) {
  int descriptor = -1;
  if (const int failure = FileSystem::current().open(path, how, descriptor); failure != 0)
    throw WriteError(path, "open the file", failure);
  return descriptor;
}

}  // namespace

Content content_of(std::string bytes) {
  const uint64_t size = bytes.size();
  return {size, [bytes = std::move(bytes)](const Sink& sink) { sink(bytes); }};
}

std::string sha256(const Content& content) {
  Sha256 hash;
  content.write([&](std::string_view bytes) { hash.add(bytes); });
  return hash.finish();
}

FileWriter::FileWriter(std::string path) : path_(std::move(path)), descriptor_(open(path_, FileSystem::Open::kEmpty)) {}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) FileSystem::current().close(descriptor_);
}

void FileWriter::write(std::string_view bytes) {
  hash_.add(bytes);
  const size_t size = bytes.size();
  if (const int failure = write_all(descriptor_, bytes); failure != 0)
    throw WriteError(path_, "write " + std::to_string(size) + " bytes", failure);
}

std::string FileWriter::finish() {
  FileSystem& files = FileSystem::current();
  int failure = files.sync(descriptor_);
  const int closed = files.close(std::exchange(descriptor_, -1));
  if (failure == 0) failure = closed;
  if (failure != 0) throw WriteError(path_, "sync and close the file", failure);
  return hash_.finish();
}

AppendFile::AppendFile(std::string path) : path_(std::move(path)), descriptor_(open(path_, FileSystem::Open::kAppend)) {
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  if (const int failure = FileSystem::current().sync_folder(folder); failure != 0) {
    FileSystem::current().close(descriptor_);
    throw WriteError(path_, "sync its folder", failure);
  }
}

AppendFile::~AppendFile() { FileSystem::current().close(descriptor_); }

int AppendFile::write_kept() {
  std::string_view left = kept_;
  const int failure = write_all(descriptor_, left);
  kept_.erase(0, kept_.size() - left.size());
  return failure;
}

bool AppendFile::append(std::string_view bytes) {
  kept_ += bytes;
  return write_kept() == 0;
}

bool AppendFile::sync() { return write_kept() == 0 && FileSystem::current().sync(descriptor_) == 0; }

void AppendFile::finish() {
  int failure = write_kept();
  if (failure == 0) failure = FileSystem::current().sync(descriptor_);
  if (failure != 0) throw WriteError(path_, "append " + std::to_string(kept_.size()) + " bytes", failure);
}

}  // namespace vlmamba::io
