#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace vlmamba::io {

/// manifest.json of a checkpoint: what it consists of. It is written last, so that a folder without it is no
/// checkpoint.
struct CheckpointManifest {
  struct File {
    uint64_t bytes;
    std::string sha256;
    std::string path;  ///< of a reference: from the checkpoint's folder, or absolute where it lies outside of the run
  };
  std::map<std::string, File> files;
  /// Weights that several checkpoints share, by name of the part: frozen ones are written once.
  std::map<std::string, File> references;

  std::string to_string() const;
};

constexpr const char* kManifestName = "manifest.json";

/// Throws Error (weights).
CheckpointManifest read_manifest(const std::string& checkpoint);

/// Where a reference leads, seen from the checkpoint's folder.
std::string referenced_path(const std::string& checkpoint, const CheckpointManifest::File& reference);

}  // namespace vlmamba::io
