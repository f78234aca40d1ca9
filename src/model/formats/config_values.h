#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/io/json.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

namespace vlmamba::formats {

/// What no model exceeds: channels, ids, layers, and factors (expand, taps of a convolution).
constexpr int64_t kMaxWidth = int64_t{1} << 20, kMaxIds = int64_t{1} << 24, kMaxLayers = 4096, kMaxFactor = 1024;

/// The values of another library's config, each with that library's default. Everything wrong is collected.
class ConfigValues {
 public:
  ConfigValues(const io::Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  /// A size; products of them stay within 64 bits.
  int64_t integer(const char* key, int64_t fallback, int64_t most = kMaxWidth) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    const double number = value->is_number() ? value->as_number() : -1;
    if (number >= 0 && number <= static_cast<double>(most) && number == std::floor(number))
      return static_cast<int64_t>(number);
    refuse(key, "a whole number of 0 to " + std::to_string(most), value->to_string());
    return fallback;
  }
  /// A number that is not negative.
  double number(const char* key, double fallback) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_number() && value->as_number() >= 0 && std::isfinite(value->as_number())) return value->as_number();
    refuse(key, "a number of at least 0", value->to_string());
    return fallback;
  }
  bool boolean(const char* key, bool fallback) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_bool()) refuse(key, "true or false", value->to_string());
    return value->as_bool();
  }
  std::string text(const char* key, const std::string& fallback) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) refuse(key, "a string", value->to_string());
    return value->as_string();
  }
  /// An object that belongs to this one; empty where there is none.
  const io::Json& object(const char* key) {
    static const io::Json none = io::Json::object();
    const auto* value = find(key);
    if (value == nullptr) return none;
    if (!value->is_object()) refuse(key, "an object", value->to_string());
    return *value;
  }
  const io::Json* find(const char* key) const {
    const auto* value = json_.find(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  void refuse(const std::string& key, const std::string& expected, const std::string& got) {
    errors_.push_back(key + ": expected " + expected + ", got " + got);
  }
  void take_errors(const ConfigValues& other) {
    errors_.insert(errors_.end(), other.errors_.begin(), other.errors_.end());
  }
  const std::string& where() const { return where_; }

  /// Throws Error (weights) if anything was wrong.
  void throw_if_any() const {
    std::string text;
    for (const auto& error : errors_) text += (text.empty() ? "[" : "\n[") + where_ + "] " + error;
    if (!errors_.empty()) throw Error(ExitCode::kWeights, text);
  }

 private:
  const io::Json& json_;
  std::string where_;
  std::vector<std::string> errors_;
};

VisionEncoderConfig vision_config(ConfigValues& values, VisionKind kind);
LanguageModelConfig hf_mamba(ConfigValues& values);
LanguageModelConfig hf_mamba2(ConfigValues& values);
LanguageModelConfig official_mamba(ConfigValues& values);
LanguageModelConfig gpt_neox(ConfigValues& values);

/// An activation by Hugging Face's name; an unknown one is an error of `values`.
nn::Activation activation_named(ConfigValues& values, const char* key, const std::string& fallback);

}  // namespace vlmamba::formats
