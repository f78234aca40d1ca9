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

/// Writes tensors as safetensors. Throws Error (weights) where none is left.
void write_safetensors(const io::WeightFiles& files, const std::string& path, const Rename& rename);

/// Makes the folder, which must not be there or be empty. Throws Error (usage).
void make_output_folder(const std::string& folder);

/// Copies those of these files that are there.
void copy_files(const std::string& from, const std::string& to, const std::vector<std::string>& names);

}  // namespace vlmamba::app
