#include "vlmamba/io/checkpoint_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/mapped_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kUnfinished = ".unfinished";

void check_written(int failure, const std::string& path, size_t bytes) {
  if (failure != 0)
    throw Error(ExitCode::kIo, path,
                "expected to write " + std::to_string(bytes) + " bytes, got: " + std::strerror(failure) +
                    "; earlier checkpoints are intact");
}

// A folder under construction that is removed unless it was given its name.
class Unfinished {
 public:
  explicit Unfinished(const std::string& path) : path_(path) {
    std::error_code failed;
    fs::remove_all(path_, failed);
    fs::create_directories(path_, failed);
    check_written(failed.value(), path_, 0);
  }
  ~Unfinished() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  void write(const std::string& name, const std::string& bytes) const {
    const std::string path = path_ + "/" + name;
    check_written(FileSystem::current().write_synced(path, bytes), path, bytes.size());
  }
  void finish(const std::string& as) const {
    std::error_code ignored;
    fs::remove_all(as, ignored);  // a damaged one of the same step
    check_written(FileSystem::current().rename(path_, as), as, 0);
  }

 private:
  std::string path_;
};

}  // namespace

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

void CheckpointFolder::write(int64_t step, const std::map<std::string, std::function<std::string()>>& files,
                             int64_t keep_last) const {
  const std::string target = step_path(step);
  const Unfinished folder(target + kUnfinished);
  Json entries = Json::object();
  for (const auto& [name, make_bytes] : files) {
    const std::string bytes = make_bytes();
    folder.write(name, bytes);
    Json& entry = entries.append(name, Json::object());
    entry.set("bytes", static_cast<int64_t>(bytes.size()));
    entry.set("sha256", sha256(bytes));
  }
  Json manifest = Json::object();
  manifest.set("files", std::move(entries));
  folder.write(kManifest, manifest.to_string(2));
  folder.finish(target);
  write_file_atomically(path_ + "/latest", fs::path(target).filename().string() + "\n");
  const auto all = steps();
  for (size_t i = static_cast<size_t>(keep_last); keep_last > 0 && i < all.size(); ++i) {
    std::error_code ignored;
    fs::remove_all(step_path(all[i]), ignored);
  }
}

std::optional<int64_t> CheckpointFolder::newest(const std::function<void(const std::string&)>& skipped) const {
  for (const int64_t step : steps()) {
    try {
      verify_checkpoint(step_path(step));
      return step;
    } catch (const Error& error) {
      skipped(error.what());
    }
  }
  return {};
}

void verify_checkpoint(const std::string& step_folder) {
  const std::string where = step_folder + "/" + kManifest;
  const Json manifest = read_json(where, ExitCode::kWeights);
  for (const auto& [name, entry] :
       require(manifest, "files", Json::Kind::kObject, where, ExitCode::kWeights).members()) {
    const std::string path = step_folder + "/" + name;
    const MappedFile file(path);
    const int64_t size = require(entry, "bytes", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer();
    if (static_cast<int64_t>(file.bytes().size()) != size)
      throw Error(ExitCode::kWeights, path,
                  "expected " + std::to_string(size) + " bytes, got " + std::to_string(file.bytes().size()));
    const auto& hash = require(entry, "sha256", Json::Kind::kString, where, ExitCode::kWeights).as_string();
    if (const std::string got = sha256(file); got != hash)
      throw Error(ExitCode::kWeights, path,
                  "expected SHA-256 " + hash.substr(0, 12) + "…, got " + got.substr(0, 12) + "…: the file was changed");
  }
}

}  // namespace vlmamba::io
