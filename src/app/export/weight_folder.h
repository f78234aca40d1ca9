#pragma once

#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/weights/safetensors.h"
#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba::app {

/// A tensor's new name; none leaves it out.
using Rename = std::function<std::optional<std::string>(const std::string&)>;

/// Tensors under new names, in C order whatever they were; they live as long as this and the files.
struct RenamedTensors {
  RenamedTensors(const io::WeightFiles& files, const Rename& rename);

  std::vector<io::TensorView> views;

 private:
  std::list<std::string> gathered_;
};

/// The same bytes as safetensors.
std::string safetensors_bytes(const io::WeightFiles& files);

/// Writes tensors as safetensors. Throws Error (weights) where none is left.
void write_safetensors(const io::WeightFiles& files, const std::string& path, const Rename& rename);

/// A folder under construction, beside the place where it appears when it is whole.
class OutputFolder {
 public:
  /// The place must not be there or be an empty folder. Throws Error (usage).
  explicit OutputFolder(const std::string& place);
  /// Removes what was not finished.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Where to write.
  const std::string& path() const { return path_; }
  /// Gives it, or a folder in it, its name. Throws Error (io).
  void finish(const std::string& part = "") const;

 private:
  std::string place_, path_;
};

/// Says so where a tensor holds NaN or infinity, which is kept as it is.
void warn_of_non_finite(const io::WeightFiles& files);

/// Copies those of these files that are there.
void copy_files(const std::string& from, const std::string& to, const std::vector<std::string>& names);

}  // namespace vlmamba::app
