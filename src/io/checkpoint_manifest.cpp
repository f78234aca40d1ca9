#include "vlmamba/io/checkpoint_manifest.h"

#include <filesystem>

#include "vlmamba/io/json.h"

namespace vlmamba::io {
namespace {

using File = CheckpointManifest::File;

Json to_json(const std::map<std::string, File>& files) {
  Json json = Json::object();
  for (const auto& [name, file] : files) {
    Json& entry = json.append(name, Json::object());
    if (!file.path.empty()) entry.set("path", file.path);
    entry.set("bytes", static_cast<int64_t>(file.bytes));
    entry.set("sha256", file.sha256);
  }
  return json;
}

std::map<std::string, File> parse_files(const Json& json, bool referenced, const std::string& where) {
  std::map<std::string, File> files;
  const auto text = [&](const Json& entry, const char* key) {
    return require(entry, key, Json::Kind::kString, where, ExitCode::kWeights).as_string();
  };
  for (const auto& [name, entry] : json.members()) {
    const int64_t bytes = require(entry, "bytes", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer();
    files[name] = {static_cast<uint64_t>(bytes), text(entry, "sha256"), referenced ? text(entry, "path") : ""};
  }
  return files;
}

}  // namespace

std::string CheckpointManifest::to_string() const {
  Json json = Json::object();
  json.set("files", to_json(files));
  if (!references.empty()) json.set("references", to_json(references));
  return json.to_string(2) + "\n";
}

CheckpointManifest read_manifest(const std::string& checkpoint) {
  const std::string where = checkpoint + "/" + kManifestName;
  const Json json = read_json(where, ExitCode::kWeights);
  CheckpointManifest manifest;
  manifest.files =
      parse_files(require(json, "files", Json::Kind::kObject, where, ExitCode::kWeights), /*referenced=*/false, where);
  if (json.find("references"))
    manifest.references = parse_files(require(json, "references", Json::Kind::kObject, where, ExitCode::kWeights),
                                      /*referenced=*/true, where);
  return manifest;
}

std::string referenced_path(const std::string& checkpoint, const File& reference) {
  namespace fs = std::filesystem;
  return fs::weakly_canonical(fs::absolute(checkpoint) / reference.path).string();  // through links, as the system
}

}  // namespace vlmamba::io
