#include "vlmamba/io/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_manifest.h"
#include "vlmamba/io/mapped_file.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kUnfinished = ".unfinished";

// A folder under construction that is removed unless it was given its name.
class Unfinished {
 public:
  explicit Unfinished(std::string path) : path_(std::move(path)) { FileSystem::current().remove(path_); }
  ~Unfinished() { FileSystem::current().remove(path_); }

  void make() const { make_folder(path_); }
  CheckpointManifest::File write(const std::string& name, const Content& content) const {
    FileWriter file(path_ + "/" + name);
    content.write([&](std::string_view bytes) { file.write(bytes); });
    return {content.bytes, file.finish(), ""};
  }
  void finish(const std::string& as) const {
    if (const int failure = FileSystem::current().sync_folder(path_); failure != 0)
      throw WriteError(path_, "sync the folder", failure);
    FileSystem::current().remove(as);  // a damaged one of the same name
    rename_synced(path_, as);
  }

 private:
  std::string path_;
};

void verify_file(const std::string& path, const CheckpointManifest::File& expected, const std::string& role) {
  const auto refuse = [&](const std::string& message) { throw Error(ExitCode::kWeights, path, message + role); };
  std::error_code failed;
  const auto status = fs::status(path, failed);
  if (!fs::exists(status)) refuse("expected a file, got no such file");
  if (!fs::is_regular_file(status)) refuse("expected a file, got something else");
  if (const auto size = fs::file_size(path, failed); failed || size != expected.bytes)
    refuse("expected " + std::to_string(expected.bytes) + " bytes, got " + std::to_string(failed ? 0 : size));
  if (const std::string got = sha256(MappedFile(path)); got != expected.sha256)
    refuse("expected SHA-256 " + expected.sha256.substr(0, 12) + "…, got " + got.substr(0, 12) +
           "…: the file was changed");
}

bool is_as_written(const SharedFile& file) {
  try {
    verify_file(file.path, {file.bytes, file.sha256, ""}, "");
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

SharedFile SharedFiles::put(const std::string& name, const Content& content) const {
  constexpr size_t kDigits = 16;
  const std::string hash = sha256(content);
  SharedFile file{folder_ + "/" + name + "-" + hash.substr(0, kDigits) + ".safetensors", content.bytes, hash};
  if (is_as_written(file)) return file;
  make_folder(folder_);
  write_file_atomically(file.path, content);
  return file;
}

uint64_t CheckpointContent::bytes() const {
  uint64_t sum = 0;
  for (const auto& [name, content] : files) sum += content.bytes;
  return sum;
}

void write_checkpoint(const std::string& folder, const CheckpointContent& content) {
  const Unfinished unfinished(folder + std::string(kUnfinished));
  unfinished.make();
  CheckpointManifest manifest;
  for (const auto& [name, file] : content.files) manifest.files[name] = unfinished.write(name, file);
  for (const auto& [name, file] : content.references)
    manifest.references[name] = {file.bytes, file.sha256,
                                 fs::path(file.path).lexically_proximate(fs::absolute(folder)).string()};
  unfinished.write(kManifestName, content_of(manifest.to_string()));
  unfinished.finish(folder);
}

void verify_checkpoint(const std::string& folder) {
  const CheckpointManifest manifest = read_manifest(folder);
  for (const auto& [name, file] : manifest.files) verify_file(folder + "/" + name, file, "");
  for (const auto& [name, file] : manifest.references)
    verify_file(referenced_path(folder, file), file, "; " + folder + " refers to it for its " + name);
}

std::string CheckpointFolder::step_path(int64_t step) const {
  char name[32];
  std::snprintf(name, sizeof name, "step_%08lld", static_cast<long long>(step));
  return path_ + "/" + name;
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> found;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(path_, failed)) {
    const std::string name = entry.path().filename().string();
    int64_t step = 0;
    if (!name.starts_with(kPrefix)) continue;
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (error == std::errc() && rest == end && entry.is_directory()) found.push_back(step);
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

void CheckpointFolder::write(int64_t step, const CheckpointContent& content) const try {
  write_checkpoint(step_path(step), content);
  write_file_atomically(path_ + "/latest", fs::path(step_path(step)).filename().string() + "\n");
} catch (const WriteError& error) {
  const uint64_t wanted = content.bytes(), free = free_bytes(path_);
  std::string why = error.what();
  if (error.disk_full())
    why = std::string(std::strerror(error.number())) + ", " + std::to_string(free) + " bytes free" +
          (free < wanted ? ", " + std::to_string(wanted - free) + " missing" : "");
  throw Error(
      ExitCode::kIo, step_path(step),
      "expected to write " + std::to_string(wanted) + " bytes, got: " + why + "; earlier checkpoints are intact");
}

void CheckpointFolder::retain(int64_t keep_last, std::optional<int64_t> best) const {
  const auto all = steps();
  for (size_t i = static_cast<size_t>(keep_last); keep_last > 0 && i < all.size(); ++i)
    if (all[i] != best) FileSystem::current().remove(step_path(all[i]));
}

void CheckpointFolder::continue_from(int64_t step) const {
  FileSystem& files = FileSystem::current();
  std::error_code failed;
  std::vector<std::string> unfinished;
  for (const auto& entry : fs::directory_iterator(path_, failed))
    if (entry.path().string().ends_with(kUnfinished)) unfinished.push_back(entry.path().string());
  for (const auto& path : unfinished) files.remove(path);
  for (const int64_t later : steps()) {
    if (later <= step) break;
    const std::string aside = step_path(later) + ".damaged";
    files.remove(aside);
    rename_synced(step_path(later), aside);
  }
}

std::optional<int64_t> CheckpointFolder::newest(const std::function<void(const std::string&)>& skipped,
                                                const std::function<void(int64_t)>& check) const {
  for (const int64_t step : steps()) {
    try {
      verify_checkpoint(step_path(step));
      check(step);
      return step;
    } catch (const Error& error) {
      skipped(error.what());
    }
  }
  return {};
}

}  // namespace vlmamba::io
