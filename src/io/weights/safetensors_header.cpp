#include "src/io/weights/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"

namespace vlmamba::io {
namespace {

constexpr uint64_t kMaxExtent = uint64_t{1} << 48;
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kExtent = "expected a whole number of 0 to 2^48, got ";

// The header is {name: {dtype: string, shape: [number…], data_offsets: [number, number]}…} and nothing deeper, with
// {string: string…} under __metadata__.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  Reader(const std::string& where, WeightTable& table) : where_(where), table_(table) {}

  bool null() override { fail("null"); }
  bool boolean(bool value) override { fail(value ? "true" : "false"); }
  bool number_float(double, const std::string& text) override { fail(text); }
  bool binary(nlohmann::json::binary_t&) override { fail("binary"); }
  bool number_integer(int64_t value) override { fail(std::to_string(value)); }  // negative

  bool number_unsigned(uint64_t value) override {
    if (depth_ != 3) fail(std::to_string(value));
    if (value > kMaxExtent) fail(std::to_string(value));
    if (key_ == "shape") {
      if (tensor_.shape.size() == kMaxRank) refuse("shape: expected at most 8 dimensions, got more");
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else {
      if (offsets_ == 2) refuse("data_offsets: expected two numbers, got more");
      (offsets_++ == 0 ? tensor_.begin : tensor_.end) = value;
    }
    return true;
  }

  bool string(std::string& value) override {
    if (depth_ != 2) fail("a string");
    if (metadata_) {
      table_.metadata[key_] = value;
    } else {
      if (key_ != "dtype") fail("a string");
      tensor_.dtype = value;
      if (dtype_size(value) == 0) refuse("dtype: expected a known one, got \"" + value.substr(0, 40) + "\"");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (depth_ >= 2) fail("an object");
    if (depth_ == 1 && !metadata_) tensor_ = {.name = name_, .dtype = {}, .shape = {}, .strides = {}};
    offsets_ = 0;
    keys_.clear();
    ++depth_;
    return true;
  }

  bool end_object() override {
    --depth_;
    complete_ = depth_ == 0;
    if (depth_ == 1 && !metadata_) {
      for (const char* wanted : {"dtype", "shape", "data_offsets"})
        if (!keys_.contains(wanted)) refuse("expected the key \"" + std::string(wanted) + "\", got none");
      if (offsets_ != 2) refuse("data_offsets: expected two numbers, got " + std::to_string(offsets_));
      if (table_.tensors.size() == kMaxTensors) refuse("expected at most 1,000,000 tensors, got more");
      table_.tensors.push_back(std::move(tensor_));
    }
    metadata_ = false;
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || metadata_ || key_ == "dtype") fail("an array");
    ++depth_;
    return true;
  }

  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(std::string& name) override {
    if (name.find('\0') != std::string::npos) refuse("expected names without NUL, got \"" + name.substr(0, 40) + "\"");
    if (name.size() > kMaxTensorName)
      refuse("expected a name of at most 4096 bytes, got " + std::to_string(name.size()));
    if (depth_ == 1) {
      if (!names_.insert(name).second) refuse("expected each key once, got \"" + name + "\" again");
      name_ = name;
      metadata_ = name == kMetadata;
    } else {
      if (!metadata_ && name != "dtype" && name != "shape" && name != "data_offsets")
        refuse("expected dtype, shape and data_offsets, got \"" + name + "\"");
      if (!keys_.insert(name).second) refuse("expected each key once, got \"" + name + "\" again");
      key_ = name;
    }
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token, const nlohmann::detail::exception&) override {
    throw Error(ExitCode::kWeights, where_ + ": header byte " + std::to_string(position),
                "expected " + std::string(complete_ ? "nothing behind the header's object" : "JSON in UTF-8") +
                    ", got \"" + token.substr(0, 40) + "\"");
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ExitCode::kWeights,
                depth_ >= 1 && !name_.empty() ? where_ + ": " + printable(name_.substr(0, 200)) : where_, message);
  }

  // A value of a kind that may not stand where it does.
  [[noreturn]] void fail(const std::string& got) const {
    if (depth_ == 0) refuse("expected an object as header, got " + got);
    if (depth_ == 1) refuse(metadata_ ? "expected an object of strings, got " + got : "expected an object, got " + got);
    if (metadata_) refuse(key_ + ": expected a string, got " + got);
    if (depth_ == 2) refuse(key_ + ": expected " + (key_ == "dtype" ? "a string" : "an array") + ", got " + got);
    refuse(key_ + ": " + kExtent + got);
  }

  const std::string& where_;
  WeightTable& table_;
  int depth_ = 0;
  bool metadata_ = false, complete_ = false;
  std::string name_, key_;
  TensorInfo tensor_;
  int offsets_ = 0;
  std::unordered_set<std::string> names_, keys_;
};

}  // namespace

WeightTable parse_safetensors_header(std::string_view json, const std::string& where) {
  WeightTable table;
  Reader reader(where, table);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader, nlohmann::json::input_format_t::json, /*strict=*/true);
  return table;
}

}  // namespace vlmamba::io
