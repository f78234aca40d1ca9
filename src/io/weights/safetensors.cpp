#include "vlmamba/io/weights/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "vlmamba/core/error.h"
#include "vlmamba/io/json.h"

namespace vlmamba::io {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr uint64_t kMaxElements = uint64_t{1} << 48;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxName = 4096;
constexpr std::array<std::pair<std::string_view, uint64_t>, 14> kDtypes{{{"BOOL", 1},
                                                                         {"U8", 1},
                                                                         {"I8", 1},
                                                                         {"F8_E4M3", 1},
                                                                         {"F8_E5M2", 1},
                                                                         {"U16", 2},
                                                                         {"I16", 2},
                                                                         {"F16", 2},
                                                                         {"BF16", 2},
                                                                         {"U32", 4},
                                                                         {"I32", 4},
                                                                         {"F32", 4},
                                                                         {"F64", 8},
                                                                         {"I64", 8}}};

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

uint64_t as_size(const Json& value, const std::string& where, const char* what) {
  if (!value.is_integer() || value.as_integer() < 0 || static_cast<uint64_t>(value.as_integer()) > kMaxElements)
    refuse(where, std::string(what) + ": expected a whole number of 0 to 2^48, got " + value.to_string());
  return static_cast<uint64_t>(value.as_integer());
}

// Bytes of the shape, each product checked before it is made: a zero must not hide an overflow.
uint64_t bytes_of(const std::vector<int64_t>& shape, uint64_t size, const std::string& where) {
  uint64_t product = size;
  for (const int64_t extent : shape) {
    const auto factor = static_cast<uint64_t>(std::max<int64_t>(extent, 1));
    if (product > kMaxElements * 8 / factor) refuse(where, "shape: expected at most 2^51 bytes, got more");
    product *= factor;
  }
  return std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : product;
}

TensorInfo tensor_info(const std::string& name, const Json& entry, const std::string& path) {
  const std::string where = path + ": " + name.substr(0, 200);
  if (name.size() > kMaxName)
    refuse(where, "expected a name of at most 4096 bytes, got " + std::to_string(name.size()));
  if (!entry.is_object()) refuse(where, "expected an object, got " + std::string(kind_name(entry.kind())));
  for (const auto& [key, value] : entry.members())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      refuse(where, "expected dtype, shape and data_offsets, got \"" + key + "\"");
  const Json& dtype = require(entry, "dtype", Json::Kind::kString, where, ExitCode::kWeights);
  const Json& shape = require(entry, "shape", Json::Kind::kArray, where, ExitCode::kWeights);
  const Json& offsets = require(entry, "data_offsets", Json::Kind::kArray, where, ExitCode::kWeights);
  TensorInfo info{name, dtype.as_string(), {}, 0, 0};
  const uint64_t size = dtype_size(info.dtype);
  if (size == 0) refuse(where, "dtype: expected a known one, got \"" + info.dtype + "\"");
  if (shape.items().size() > kMaxRank) refuse(where, "shape: expected at most 8 dimensions");
  for (const Json& extent : shape.items()) info.shape.push_back(static_cast<int64_t>(as_size(extent, where, "shape")));
  if (offsets.items().size() != 2) refuse(where, "data_offsets: expected two numbers, got " + offsets.to_string());
  info.begin = as_size(offsets.items()[0], where, "data_offsets");
  info.end = as_size(offsets.items()[1], where, "data_offsets");
  const uint64_t bytes = bytes_of(info.shape, size, where);
  if (info.end < info.begin || info.end - info.begin != bytes)
    refuse(where, "data_offsets: expected " + std::to_string(bytes) + " bytes for " + info.dtype + " " +
                      shape.to_string() + ", got " + offsets.to_string());
  return info;
}

// No gap, no overlap, and the data ends where the file ends.
void check_layout(std::vector<TensorInfo> tensors, uint64_t data_size, const std::string& path) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  uint64_t end = 0;
  for (const auto& tensor : tensors) {
    if (tensor.begin != end)
      refuse(path + ": " + tensor.name,
             "expected to begin at byte " + std::to_string(end) + ", got " + std::to_string(tensor.begin));
    end = tensor.end;
  }
  if (end != data_size)
    refuse(path, "expected " + std::to_string(end) + " bytes of tensors, got " + std::to_string(data_size) +
                     (data_size < end ? ": an incomplete download?" : ""));
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

uint64_t dtype_size(std::string_view dtype) {
  for (const auto& [name, size] : kDtypes)
    if (name == dtype) return size;
  return dtype == "U64" ? 8 : 0;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) refuse(path, "expected a safetensors file, got: " + std::string(std::strerror(errno)));
  struct stat status {};
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  size_ = regular ? static_cast<size_t>(status.st_size) : 0;
  if (size_ >= 8) mapping_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  ::close(descriptor);
  if (!regular) refuse(path, "expected a regular file, got something else");
  if (size_ < 8) refuse(path, "expected a safetensors file, got " + std::to_string(size_) + " bytes");
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    refuse(path, "expected to map the file, got: " + std::string(std::strerror(errno)));
  }
  try {
    uint64_t header = 0;
    std::memcpy(&header, mapping_, sizeof header);
    if (header == 0 || header > kMaxHeader || header > size_ - 8)
      refuse(path, "expected a header of 1 to " + std::to_string(std::min<uint64_t>(kMaxHeader, size_ - 8)) +
                       " bytes, got " + std::to_string(header));
    const auto* text = static_cast<const char*>(mapping_) + 8;
    if (*text != '{') refuse(path, "expected the header to begin with {");
    data_ = static_cast<const std::byte*>(mapping_) + 8 + header;
    parse({text, header}, size_ - 8 - header);
  } catch (...) {
    ::munmap(mapping_, size_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { ::munmap(mapping_, size_); }

void SafetensorsFile::parse(std::string_view header, uint64_t data_size) {
  const Json json = parse_json(header, path_, ExitCode::kWeights);
  for (const auto& [name, entry] : json.members()) {
    if (name != "__metadata__") {
      index_[name] = tensors_.size();
      tensors_.push_back(tensor_info(name, entry, path_));
      continue;
    }
    if (!entry.is_object()) refuse(path_, "__metadata__: expected an object of strings");
    for (const auto& [key, value] : entry.members()) {
      if (!value.is_string()) refuse(path_, "__metadata__: " + key + ": expected a string");
      metadata_[key] = value.as_string();
    }
  }
  check_layout(tensors_, data_size, path_);
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::string to_safetensors(const std::vector<TensorView>& tensors, const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  Json about = Json::object();
  about.set("format", "pt");
  for (const auto& [key, value] : metadata) about.set(key, value);
  header.append("__metadata__", std::move(about));
  int64_t offset = 0;
  for (const auto& tensor : tensors) {
    Json entry = Json::object(), shape = Json::array(), offsets = Json::array();
    for (const int64_t extent : tensor.shape) shape.push(extent);
    offsets.push(offset);
    offsets.push(offset += static_cast<int64_t>(tensor.bytes));
    entry.set("dtype", tensor.dtype);
    entry.set("shape", std::move(shape));
    entry.set("data_offsets", std::move(offsets));
    header.append(tensor.name, std::move(entry));
  }
  std::string text = header.to_string();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  bytes += text;
  for (const auto& tensor : tensors) bytes.append(static_cast<const char*>(tensor.data), tensor.bytes);
  return bytes;
}

}  // namespace vlmamba::io
