#include "vlmamba/io/config.h"

#include <charconv>

#include "vlmamba/core/text.h"

namespace vlmamba::io {
namespace {

constexpr int kOverrideColumn = -1;  // marks a value that came from --set
constexpr size_t kMaxShown = 60;

// What LLaVA and Prismatic call the same things.
constexpr std::array<std::pair<std::string_view, std::string_view>, 32> kForeignNames{{
    {"learning_rate", "optimizer.lr"},
    {"mm_projector_lr", "optimizer.parts.connector.lr"},
    {"warmup_ratio", "schedule.warmup_ratio"},
    {"warmup_steps", "schedule.warmup_steps"},
    {"lr_scheduler_type", "schedule.kind"},
    {"max_grad_norm", "optimizer.clip"},
    {"adam_beta1", "optimizer.beta1"},
    {"adam_beta2", "optimizer.beta2"},
    {"adam_epsilon", "optimizer.eps"},
    {"num_train_epochs", "epochs"},
    {"max_steps", "steps"},
    {"per_device_train_batch_size", "batch.micro_batch"},
    {"per_device_batch_size", "batch.micro_batch"},
    {"global_batch_size", "batch.global_batch"},
    {"gradient_accumulation_steps", "batch.micro_batch (accumulation is derived)"},
    {"model_max_length", "batch.max_length"},
    {"llm_max_length", "batch.max_length"},
    {"dataloader_num_workers", "batch.loader_threads"},
    {"group_by_modality_length", "batch.group_by (modality_length)"},
    {"group_by_length", "batch.group_by (length)"},
    {"mm_projector_type", "model.connector.kind"},
    {"arch_specifier", "model.connector.kind"},
    {"vision_tower", "model.vision_encoder"},
    {"vision_backbone_id", "model.vision_encoder"},
    {"mm_vision_select_layer", "model.vision_encoder.feature_layer"},
    {"model_name_or_path", "model.language_model"},
    {"llm_backbone_id", "model.language_model"},
    {"data_path", "data.sets[].records"},
    {"image_folder", "data.sets[].image_root"},
    {"image_aspect_ratio", "image_processor.mode"},
    {"save_steps", "checkpoint.every"},
    {"logging_steps", "log_every"},
}};

std::string suggestion(const std::string& key, const std::vector<std::string>& allowed) {
  for (const auto& [foreign, ours] : kForeignNames)
    if (foreign == key) return "; here it is called " + std::string(ours);
  const std::string near = nearest(key, allowed);
  return near.empty() ? "" : "; did you mean \"" + near + "\"?";
}

[[noreturn]] void refuse(const std::string& override_text, const std::string& message) {
  throw Error(ExitCode::kUsage, "--set " + override_text, message);
}

// The element of an array that an override names.
size_t element(const Json& array, std::string_view name, const std::string& override_text) {
  std::string names;
  for (size_t i = 0; i < array.items().size(); ++i) {
    const Json* own = array.items()[i].find("name");
    const std::string text = own && own->is_string() ? own->as_string() : std::to_string(i);
    if (name == text || name == std::to_string(i)) return i;
    names += (names.empty() ? "" : ", ") + text;
  }
  refuse(override_text,
         "expected one of " + (names.empty() ? "no elements" : names) + ", got \"" + std::string(name) + "\"");
}

Json with_override(Json json, std::string_view path, const Json& value, const std::string& override_text) {
  if (path.empty()) return value;
  const auto dot = path.find('.');
  const auto key = path.substr(0, dot);
  const auto rest = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  if (key.empty() || (dot != std::string_view::npos && rest.empty()))
    refuse(override_text, "expected key.path=value, got an empty key");
  if (json.is_array()) {
    const size_t index = element(json, key, override_text);
    Json copy = Json::array();
    copy.line = json.line, copy.column = json.column;
    for (size_t i = 0; i < json.items().size(); ++i)
      copy.push(i == index ? with_override(json.items()[i], rest, value, override_text) : json.items()[i]);
    return copy;
  }
  if (json.is_null()) json = Json::object();
  if (!json.is_object()) refuse(override_text, "expected a section before \"." + std::string(key) + "\", got a value");
  const Json* old = json.find(key);
  json.set(key, with_override(old ? *old : Json(), rest, value, override_text));
  return json;
}

}  // namespace

void ConfigErrors::add(const Json& value, const std::string& key, const std::string& message) {
  const bool from_set = value.column == kOverrideColumn;
  const std::string at = from_set ? "--set"
                         : value.line > 0
                             ? where_ + ":" + std::to_string(value.line) + ":" + std::to_string(value.column)
                             : where_;
  lines_.push_back("[" + at + "] " + (key.empty() ? "" : key + ": ") + message);
}

void ConfigErrors::add_unknown(const Json& value, const std::string& path, const std::string& key,
                               const std::vector<std::string>& allowed) {
  std::string all;
  for (const auto& name : allowed) all += (all.empty() ? "" : ", ") + name;
  add(value, detail::join(path, key), "unknown key" + suggestion(key, allowed) + "\n    allowed: " + all);
}

void ConfigErrors::throw_if_any() const {
  if (lines_.empty()) return;
  std::string all;
  for (const auto& line : lines_) all += line + "\n";
  all += std::to_string(lines_.size()) + (lines_.size() == 1 ? " error" : " errors") + ", nothing was started";
  throw Error(ExitCode::kUsage, all);
}

void apply_overrides(Json& json, const std::vector<std::string>& overrides) {
  for (const auto& text : overrides) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) refuse(text, "expected key.path=value");
    Json value(text.substr(equals + 1));
    value.column = kOverrideColumn;
    json = with_override(std::move(json), std::string_view(text).substr(0, equals), value, text);
  }
}

namespace detail {

Json typed(const Json& value, bool text_wanted) {
  if (value.column != kOverrideColumn || text_wanted) return value;
  try {
    return parse_json(value.as_string(), "--set", ExitCode::kUsage);
  } catch (const Error&) {
    return value;  // plain text where JSON was wanted: the caller names what it expected
  }
}

Json settled(const Json& value) {
  if (!value.is_object()) return typed(value, /*text_wanted=*/false);
  Json object = value;
  for (const auto& [key, member] : value.members()) object.set(key, settled(member));
  return object;
}

std::string quoted(const Json& value) {
  std::string text = value.to_string();
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "…";
  return text;
}

std::string join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : path + "." + std::string(key);
}

std::string range_text(const Range& range, const std::string& joint) {
  const auto text = [](double value) {
    char buffer[32];
    const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
    return std::string(buffer, (whole ? std::to_chars(buffer, buffer + sizeof buffer, static_cast<int64_t>(value))
                                      : std::to_chars(buffer, buffer + sizeof buffer, value))
                                   .ptr);
  };
  std::string bounds;
  if (std::isfinite(range.least)) bounds = "at least " + text(range.least);
  if (std::isfinite(range.most))
    bounds +=
        (bounds.empty() ? "" : joint) + (range.most_is == Bound::kExcluded ? "below " : "at most ") + text(range.most);
  return bounds;
}

void check_range(const Json& json, double value, const std::string& path, const Range& range, ConfigErrors& errors) {
  const bool below = range.most_is == Bound::kExcluded ? value < range.most : value <= range.most;
  if (value >= range.least && below) return;
  errors.add(json, path, "expected " + range_text(range) + ", got " + quoted(json));
}

}  // namespace detail
}  // namespace vlmamba::io
