#pragma once

#include <string>
#include <vector>

#include "vlmamba/core/error.h"
#include "vlmamba/io/json.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

namespace vlmamba::formats {

/// The values of another library's config, each with that library's default. Everything wrong is collected.
class ConfigValues {
 public:
  ConfigValues(const io::Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  int64_t integer(const char* key, int64_t fallback) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_integer() && value->as_integer() >= 0) return value->as_integer();
    if (value->is_number() && value->as_number() >= 0 &&
        value->as_number() == static_cast<double>(static_cast<int64_t>(value->as_number())))
      return static_cast<int64_t>(value->as_number());
    refuse(key, "a whole number", value->to_string());
    return fallback;
  }
  double number(const char* key, double fallback) {
    const auto* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_number()) refuse(key, "a number", value->to_string());
    return value->as_number();
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
