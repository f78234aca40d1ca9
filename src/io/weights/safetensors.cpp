#include "vlmamba/io/weights/safetensors.h"

#include <algorithm>
#include <cstring>

#include "src/io/weights/safetensors_header.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/json.h"

namespace vlmamba::io {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

// Each tensor has the bytes of its shape, no gap, no overlap, and the data ends where the file ends.
void check_layout(const std::vector<TensorInfo>& tensors, uint64_t data_size, const std::string& path) {
  std::vector<const TensorInfo*> sorted;
  for (const auto& tensor : tensors) {
    const std::string where = path + ": " + tensor.name.substr(0, 200);
    const uint64_t bytes = tensor_bytes(tensor.shape, dtype_size(tensor.dtype), where);
    if (tensor.end < tensor.begin || tensor.end - tensor.begin != bytes)
      refuse(where, "data_offsets: expected " + std::to_string(bytes) + " bytes for " + tensor.dtype + " " +
                        shape_text(tensor.shape) + ", got [" + std::to_string(tensor.begin) + ", " +
                        std::to_string(tensor.end) + "]");
    sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  uint64_t end = 0;
  for (const auto* tensor : sorted) {
    if (tensor->begin != end)
      refuse(path + ": " + tensor->name.substr(0, 200),
             "expected to begin at byte " + std::to_string(end) + ", got " + std::to_string(tensor->begin));
    end = tensor->end;
  }
  if (end != data_size)
    refuse(path, "expected " + std::to_string(end) + " bytes of tensors, got " + std::to_string(data_size) +
                     (data_size < end ? ": an incomplete download?" : ""));
}

}  // namespace

WeightTable parse_safetensors(std::string_view bytes, const std::string& where) {
  if (bytes.size() < 8) refuse(where, "expected a safetensors file, got " + std::to_string(bytes.size()) + " bytes");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header == 0 || header > kMaxHeader || header > bytes.size() - 8)
    refuse(where, "expected a header of 1 to " + std::to_string(std::min<uint64_t>(kMaxHeader, bytes.size() - 8)) +
                      " bytes, got " + std::to_string(header));
  if (bytes[8] != '{') refuse(where, "expected the header to begin with {");
  auto table = parse_safetensors_header(bytes.substr(8, header), where);
  check_layout(table.tensors, bytes.size() - 8 - header, where);
  for (auto& tensor : table.tensors) {
    tensor.begin += 8 + header;
    tensor.end += 8 + header;
  }
  return table;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(path), table_(parse_safetensors(file_.bytes(), path)) {
  for (size_t i = 0; i < table_.tensors.size(); ++i) index_[table_.tensors[i].name] = i;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &table_.tensors[found->second];
}

std::string safetensors_header(const std::vector<TensorView>& tensors,
                               const std::map<std::string, std::string>& metadata) {
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
  return bytes + text;
}

std::string to_safetensors(const std::vector<TensorView>& tensors, const std::map<std::string, std::string>& metadata) {
  std::string bytes = safetensors_header(tensors, metadata);
  for (const auto& tensor : tensors) bytes.append(static_cast<const char*>(tensor.data), tensor.bytes);
  return bytes;
}

}  // namespace vlmamba::io
