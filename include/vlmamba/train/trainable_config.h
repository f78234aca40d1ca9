#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/config.h"

namespace vlmamba {

/// LoRA (Hu et al., arXiv 2106.09685). The defaults are LLaVA-1.5's.
struct LoraConfig {
  int64_t r = 128;
  double alpha = 256;
  double dropout = 0.05;
  std::vector<std::string> target_modules;

  template <typename F>
  void visit(F& f) {
    f("r", r, "rank of the two small matrices", Range{1});
    f("alpha", alpha, "their product is multiplied by alpha / r", Range{0});
    f("dropout", dropout, "share of the inputs that they do not see in a training step", Range{0, 0.99});
    f("target_modules", target_modules,
      "layers that get them, by name: in_proj, x_proj, dt_proj, …; []: all linear ones");
  }
};

/// How one part trains: all of it, its last blocks, or LoRA beside its frozen weights.
struct PartTraining {
  int64_t last_blocks = 0;
  std::optional<LoraConfig> lora;

  template <typename F>
  void visit(F& f) {
    f("last_blocks", last_blocks, "only so many blocks from the end, and what follows them; 0: everything", Range{0});
    f("lora", lora, "LoRA beside weights that stay as they are; null: the weights themselves train");
  }
};

/// Which parts train, and how; the others are frozen. In a config, an array of the parts that train as a whole, or an
/// object: by part, "all" or an object as above.
struct Trainable {
  std::map<std::string, PartTraining> parts;

  Trainable() = default;
  Trainable(std::initializer_list<std::string> whole) {
    for (const auto& part : whole) parts[part];
  }
  bool contains(const std::string& part) const { return parts.contains(part); }
  bool empty() const { return parts.empty(); }
};

namespace io::detail {

template <>
struct Binding<Trainable> {
  using Element = PartTraining;  // by part

  static void read(const Json& raw, Trainable& out, const std::string& path, const Range& range, ConfigErrors& errors) {
    const Json json = typed(raw, false);
    out.parts.clear();
    if (json.is_array()) {
      std::vector<std::string> whole;
      Binding<std::vector<std::string>>::read(json, whole, path, range, errors);
      for (const auto& part : whole) out.parts[part];
    } else if (json.is_object()) {
      for (const auto& [part, value] : json.members()) {
        PartTraining& how = out.parts[part];
        if (const Json word = typed(value, true); !word.is_string() || word.as_string() != "all")
          read_value(value, how, join(path, part), range, errors);
      }
    } else {
      errors.add(raw, path, "expected an array of parts, or an object by part, got " + quoted(raw));
    }
  }

  static Json write(const Trainable& value) {
    const auto is_whole = [](const auto& entry) { return entry.second.last_blocks == 0 && !entry.second.lora; };
    const bool array = std::all_of(value.parts.begin(), value.parts.end(), is_whole);
    Json json = array ? Json::array() : Json::object();
    for (const auto& entry : value.parts) {
      if (array)
        json.push(entry.first);
      else if (is_whole(entry))
        json.set(entry.first, "all");
      else
        json.set(entry.first, Binding<PartTraining>::write(entry.second));
    }
    return json;
  }

  static std::string type() { return "array of parts, or object by part"; }
};

}  // namespace io::detail

}  // namespace vlmamba
