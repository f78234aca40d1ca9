#include "vlmamba/io/weights/torch_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <map>

#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kStorages{{{"F32", "FloatStorage"},
                                                                                   {"F64", "DoubleStorage"},
                                                                                   {"F16", "HalfStorage"},
                                                                                   {"BF16", "BFloat16Storage"},
                                                                                   {"I64", "LongStorage"},
                                                                                   {"I32", "IntStorage"},
                                                                                   {"I16", "ShortStorage"},
                                                                                   {"I8", "CharStorage"},
                                                                                   {"U8", "ByteStorage"},
                                                                                   {"BOOL", "BoolStorage"}}};

template <typename T>
void put(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff);
}

// Protocol 2, the opcodes that torch.save uses.
class PickleWriter {
 public:
  PickleWriter() { bytes_ = std::string("\x80\x02", 2) + "}("; }  // a dict, and a mark for its members

  void tensor(const TensorView& tensor, const std::string& storage) {
    const auto type =
        std::find_if(kStorages.begin(), kStorages.end(), [&](const auto& t) { return t.first == tensor.dtype; });
    if (type == kStorages.end())
      throw Error(ExitCode::kWeights, tensor.name, "expected a dtype that torch.save has, got " + tensor.dtype);
    int64_t elements = 1;
    for (const int64_t extent : tensor.shape) elements *= extent;
    text(tensor.name);
    bytes_ += "ctorch._utils\n_rebuild_tensor_v2\n((";
    text("storage");
    bytes_ += "ctorch\n" + std::string(type->second) + "\n";
    text(storage);
    text("cpu");
    integer(elements);
    bytes_ += "tQ";  // the tuple names the storage
    integer(0);
    sizes(tensor.shape);
    std::vector<int64_t> strides(tensor.shape.size(), 1);
    for (size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(tensor.shape[i], 1);
    sizes(strides);
    bytes_ += "\x89";  // requires no gradient
    bytes_ += "ccollections\nOrderedDict\n)RtR";
  }

  std::string finish() { return bytes_ + "u."; }

 private:
  void text(const std::string& value) {
    bytes_ += 'X';
    put(bytes_, static_cast<uint32_t>(value.size()));
    bytes_ += value;
  }
  void integer(int64_t value) {
    if (value < (int64_t{1} << 31)) {
      bytes_ += 'J';
      put(bytes_, static_cast<uint32_t>(value));
    } else {
      bytes_ += std::string("\x8a\x08", 2);
      put(bytes_, value);
    }
  }
  void sizes(const std::vector<int64_t>& values) {
    bytes_ += '(';
    for (const int64_t value : values) integer(value);
    bytes_ += 't';
  }

  std::string bytes_;
};

// Stored entries whose data begin at multiples of 64 bytes; zip64 where 32 bits do not do.
class ZipWriter {
 public:
  void add(const std::string& name, std::string_view data) {
    const uint64_t at = bytes_.size();
    const auto crc = static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
    const bool large = data.size() >= kLimit;
    std::string wide;  // sizes in the local header
    if (large)
      put<uint16_t>(wide, 1), put<uint16_t>(wide, 16), put<uint64_t>(wide, data.size()),
          put<uint64_t>(wide, data.size());
    const uint64_t start = at + 30 + name.size() + wide.size() + 4;
    const auto padding = static_cast<uint16_t>((64 - start % 64) % 64);
    put<uint32_t>(bytes_, 0x04034b50);
    fields(bytes_, large, crc, data.size(), name.size(), wide.size() + 4 + padding);
    bytes_ += name + wide;
    put<uint16_t>(bytes_, 0x4246);  // "FB", torch's own
    put<uint16_t>(bytes_, padding);
    bytes_.append(padding, 'Z');
    bytes_ += data;
    wide.clear();
    const bool far = at >= kLimit;
    if (large) put<uint64_t>(wide, data.size()), put<uint64_t>(wide, data.size());
    if (far) put<uint64_t>(wide, at);
    put<uint32_t>(directory_, 0x02014b50);
    put<uint16_t>(directory_, 45);
    fields(directory_, large, crc, data.size(), name.size(), wide.empty() ? 0 : wide.size() + 4);
    directory_.append(10, '\0');  // no comment, first disk, no attributes
    put<uint32_t>(directory_, far ? UINT32_MAX : static_cast<uint32_t>(at));
    directory_ += name;
    if (!wide.empty()) {
      put<uint16_t>(directory_, 1);
      put<uint16_t>(directory_, static_cast<uint16_t>(wide.size()));
      directory_ += wide;
    }
    ++entries_;
  }

  std::string finish() {
    const uint64_t begin = bytes_.size(), size = directory_.size(), end = begin + size;
    bytes_ += directory_;
    put<uint32_t>(bytes_, 0x06064b50);  // the zip64 end record, as torch writes it always
    put<uint64_t>(bytes_, 44);
    put<uint32_t>(bytes_, 45 << 16 | 45);
    put<uint64_t>(bytes_, 0);
    for (const uint64_t value : {entries_, entries_, size, begin}) put(bytes_, value);
    put<uint32_t>(bytes_, 0x07064b50);
    put<uint32_t>(bytes_, 0);
    put(bytes_, end);
    put<uint32_t>(bytes_, 1);
    put<uint32_t>(bytes_, 0x06054b50);
    put<uint32_t>(bytes_, 0);
    const auto count = static_cast<uint16_t>(std::min<uint64_t>(entries_, UINT16_MAX));
    put(bytes_, count);
    put(bytes_, count);
    put(bytes_, static_cast<uint32_t>(std::min<uint64_t>(size, UINT32_MAX)));
    put(bytes_, static_cast<uint32_t>(std::min<uint64_t>(begin, UINT32_MAX)));
    put<uint16_t>(bytes_, 0);
    return std::move(bytes_);
  }

 private:
  static constexpr uint64_t kLimit = UINT32_MAX;

  static void fields(std::string& out, bool large, uint32_t crc, uint64_t size, size_t name, size_t extra) {
    put<uint16_t>(out, 45);
    put<uint16_t>(out, 0x0800);      // names are UTF-8
    put<uint16_t>(out, 0);           // stored
    put<uint32_t>(out, 0x00210000);  // 1 January 1980
    put(out, crc);
    put(out, large ? UINT32_MAX : static_cast<uint32_t>(size));
    put(out, large ? UINT32_MAX : static_cast<uint32_t>(size));
    put(out, static_cast<uint16_t>(name));
    put(out, static_cast<uint16_t>(extra));
  }

  std::string bytes_, directory_;
  uint64_t entries_ = 0;
};

}  // namespace

std::string to_torch_file(const std::vector<TensorView>& tensors) {
  std::map<std::pair<const void*, size_t>, std::string> keys;  // of storages
  std::vector<const TensorView*> storages;
  PickleWriter pickle;
  for (const auto& tensor : tensors) {
    const auto [key, fresh] = keys.try_emplace({tensor.data, tensor.bytes}, std::to_string(storages.size()));
    if (fresh) storages.push_back(&tensor);
    pickle.tensor(tensor, key->second);
  }
  ZipWriter zip;
  zip.add("archive/data.pkl", pickle.finish());
  zip.add("archive/byteorder", "little");
  for (size_t i = 0; i < storages.size(); ++i)
    zip.add("archive/data/" + std::to_string(i), {static_cast<const char*>(storages[i]->data), storages[i]->bytes});
  zip.add("archive/version", "3\n");
  return zip.finish();
}

}  // namespace vlmamba::io
