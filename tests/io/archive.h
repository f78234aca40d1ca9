#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

/// Zip archives and pickles, byte by byte, so that a test can spoil any of them.
namespace vlmamba::io::test {

template <typename T>
std::string le(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

struct Record {
  std::string name, data;
  uint16_t flags = 0x0808;  ///< as torch.save: sizes follow the data
  uint16_t method = 0;
  std::string local_name = {};  ///< another name in the local header
  int crc_off_by = 0;           ///< in the directory
  int local_size_off_by = 0;    ///< where the sizes do not follow
};

/// An archive with a zip64 end record and locator, as torch.save writes it, or without.
inline std::string archive(const std::vector<Record>& records, bool zip64 = true, const std::string& before = "") {
  std::string bytes = before, directory;
  for (const auto& r : records) {
    const auto size = static_cast<uint32_t>(r.data.size());
    const auto crc = static_cast<uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(r.data.data()), size));
    const bool follow = (r.flags & 8) != 0;
    const std::string& local = r.local_name.empty() ? r.name : r.local_name;
    const auto offset = static_cast<uint32_t>(bytes.size());
    const uint32_t local_size = follow ? 0 : size + static_cast<uint32_t>(r.local_size_off_by);
    const std::string padding = std::string("FB") + le<uint16_t>(5) + "ZZZZZ";  // in local headers only
    bytes += le<uint32_t>(0x04034b50) + le<uint16_t>(0) + le(r.flags) + le(r.method) + le<uint32_t>(0) +
             le<uint32_t>(follow ? 0 : crc) + le(local_size) + le(local_size) +
             le(static_cast<uint16_t>(local.size())) + le(static_cast<uint16_t>(padding.size())) + local + padding +
             r.data;
    if (follow) bytes += le<uint32_t>(0x08074b50) + le(crc) + le(size) + le(size);
    directory += le<uint32_t>(0x02014b50) + le<uint16_t>(0) + le<uint16_t>(0) + le(r.flags) + le(r.method) +
                 le<uint32_t>(0) + le(crc + static_cast<uint32_t>(r.crc_off_by)) + le(size) + le(size) +
                 le(static_cast<uint16_t>(r.name.size())) + le<uint16_t>(0) + le<uint16_t>(0) + le<uint16_t>(0) +
                 le<uint16_t>(0) + le<uint32_t>(0) + le(offset) + r.name;
  }
  const uint64_t begin = bytes.size(), end = begin + directory.size(), count = records.size();
  bytes += directory;
  if (zip64)
    bytes += le<uint32_t>(0x06064b50) + le<uint64_t>(44) + le<uint32_t>(0) + le<uint32_t>(0) + le<uint32_t>(0) +
             le(count) + le(count) + le<uint64_t>(directory.size()) + le(begin) + le<uint32_t>(0x07064b50) +
             le<uint32_t>(0) + le(end) + le<uint32_t>(1);
  return bytes + le<uint32_t>(0x06054b50) + le<uint32_t>(0) + le(static_cast<uint16_t>(count)) +
         le(static_cast<uint16_t>(count)) + le(static_cast<uint32_t>(directory.size())) +
         le(static_cast<uint32_t>(begin)) + le<uint16_t>(0);
}

inline std::string text(const std::string& value) {
  return std::string("X") + le(static_cast<uint32_t>(value.size())) + value;
}
inline std::string number(int64_t value) {
  return value >= 0 && value < 256 ? std::string("K") + static_cast<char>(value) : std::string("\x8a\x08") + le(value);
}
inline std::string tuple(const std::vector<std::string>& parts) {
  std::string bytes = "(";
  for (const auto& part : parts) bytes += part;
  return bytes + "t";
}
inline std::string numbers(const std::vector<int64_t>& values) {
  std::vector<std::string> parts;
  for (const int64_t value : values) parts.push_back(number(value));
  return tuple(parts);
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }
inline std::string storage(const std::string& type, const std::string& key, int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), number(count)}) + "Q";
}
inline std::string tensor(const std::string& where, int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({where, number(offset), numbers(shape), numbers(strides), "\x89", ordered_dict()}) + "R";
}
inline std::string dict(const std::vector<std::pair<std::string, std::string>>& members,
                        const std::string& empty = "}") {
  std::string bytes = empty + "(";
  for (const auto& [key, value] : members) bytes += text(key) + value;
  return bytes + "u";
}
inline std::string pickle(const std::string& object) { return "\x80\x02" + object + "."; }

}  // namespace vlmamba::io::test
