#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba::app {

/// A tensor's new name; none leaves it out.
using Rename = std::function<std::optional<std::string>(const std::string&)>;

/// Writes tensors as safetensors, in C order whatever they were.
void write_safetensors(const io::WeightFiles& files, const std::string& path, const Rename& rename);

/// Makes the folder, which must not be there or be empty. Throws Error (usage).
void make_output_folder(const std::string& folder);

/// Copies those of these files that are there.
void copy_files(const std::string& from, const std::string& to, const std::vector<std::string>& names);

}  // namespace vlmamba::app
