#include "vlmamba/io/weights/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

// APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint16_t kSizesFollow = 0x0008, kUtf8 = 0x0800;
constexpr uint64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20;
constexpr size_t kMaxEntries = 1'000'000;

// Little-endian fields of an archive; every access is checked against its size.
class Fields {
 public:
  Fields(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  std::string_view text(uint64_t offset, uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset)
      refuse("expected " + std::to_string(size) + " bytes at byte " + std::to_string(offset) +
             ", got the end of the file: an incomplete download?");
    return bytes_.substr(offset, size);
  }
  template <typename T>
  T get(uint64_t offset) const {
    T value;
    std::memcpy(&value, text(offset, sizeof value).data(), sizeof value);
    return value;
  }
  void expect(uint64_t offset, uint32_t signature, const char* what) const {
    if (get<uint32_t>(offset) != signature)
      refuse("expected " + std::string(what) + " of a zip archive at byte " + std::to_string(offset));
  }
  uint64_t size() const { return bytes_.size(); }
  [[noreturn]] void refuse(const std::string& message) const { throw Error(ExitCode::kWeights, where_, message); }

 private:
  std::string_view bytes_;
  const std::string& where_;
};

struct Directory {
  uint64_t entries, begin, end;
};

Directory find_directory(const Fields& zip) {
  if (zip.size() < kEndSize) zip.refuse("expected a zip archive, got " + std::to_string(zip.size()) + " bytes");
  const uint64_t end = zip.size() - kEndSize;
  zip.expect(end, kEnd, "the end record");
  if (zip.get<uint16_t>(end + 4) != 0 || zip.get<uint16_t>(end + 6) != 0 || zip.get<uint16_t>(end + 20) != 0)
    zip.refuse("expected a zip archive of one disk without comment");
  Directory found{zip.get<uint16_t>(end + 10), zip.get<uint32_t>(end + 16), end};
  uint64_t size = zip.get<uint32_t>(end + 12);
  if (end >= kLocatorSize + kEnd64Size && zip.get<uint32_t>(end - kLocatorSize) == kLocator64) {
    const uint64_t record = end - kLocatorSize - kEnd64Size;
    if (zip.get<uint64_t>(end - kLocatorSize + 8) != record)
      zip.refuse("expected the zip64 end record at byte " + std::to_string(record));
    zip.expect(record, kEnd64, "the zip64 end record");
    found = {zip.get<uint64_t>(record + 32), zip.get<uint64_t>(record + 48), record};
    size = zip.get<uint64_t>(record + 40);
  }
  if (found.begin > found.end || size != found.end - found.begin)
    zip.refuse("expected the zip directory to end at byte " + std::to_string(found.end));
  if (found.entries > kMaxEntries || found.entries > size / kCentralSize)
    zip.refuse("expected at most " + std::to_string(std::min<uint64_t>(kMaxEntries, size / kCentralSize)) +
               " entries, got " + std::to_string(found.entries));
  return found;
}

struct Central {
  ZipEntry entry;
  uint64_t local = 0, size = 0;
  uint16_t flags = 0;
};

// Replaces what did not fit into 32 bits by the zip64 extra field's values, in the order of the format.
void read_zip64(const Fields& zip, uint64_t begin, uint64_t end, Central& central, uint64_t& packed) {
  for (uint64_t at = begin; at + 4 <= end;) {
    const uint16_t id = zip.get<uint16_t>(at), length = zip.get<uint16_t>(at + 2);
    uint64_t field = at + 4;
    at = field + length;
    if (at > end) break;
    if (id != 1) continue;
    for (uint64_t* value : {&central.size, &packed, &central.local})
      if (*value == UINT32_MAX && field + 8 <= at) {
        *value = zip.get<uint64_t>(field);
        field += 8;
      }
  }
}

Central read_central(const Fields& zip, uint64_t& at, const Directory& directory) {
  if (at > directory.end || directory.end - at < kCentralSize)
    zip.refuse("expected an entry of the zip directory at byte " + std::to_string(at));
  zip.expect(at, kCentral, "an entry of the directory");
  Central central;
  central.flags = zip.get<uint16_t>(at + 8);
  const uint16_t method = zip.get<uint16_t>(at + 10);
  central.entry.crc = zip.get<uint32_t>(at + 16);
  uint64_t packed = zip.get<uint32_t>(at + 20);
  central.size = zip.get<uint32_t>(at + 24);
  const uint64_t name = zip.get<uint16_t>(at + 28), extra = zip.get<uint16_t>(at + 30);
  const uint64_t comment = zip.get<uint16_t>(at + 32);
  central.local = zip.get<uint32_t>(at + 42);
  central.entry.name = std::string(zip.text(at + kCentralSize, name));
  const uint64_t extra_at = at + kCentralSize + name;
  at = extra_at + extra + comment;
  if (at > directory.end) zip.refuse("expected the zip directory to end at byte " + std::to_string(directory.end));
  read_zip64(zip, extra_at, extra_at + extra, central, packed);
  if (method != 0 || packed != central.size)
    zip.refuse(central.entry.name + ": expected a stored entry, got a compressed one");
  if ((central.flags & ~(kSizesFollow | kUtf8)) != 0)
    zip.refuse(central.entry.name + ": expected an entry without encryption or other flags, got flags " +
               std::to_string(central.flags));
  return central;
}

// The local header must tell the same story as the directory; loaders differ in which of them they believe.
void check_local(const Fields& zip, Central& central, const Directory& directory) {
  const uint64_t at = central.local;
  if (at > directory.begin || directory.begin - at < kLocalSize)
    zip.refuse(central.entry.name + ": expected a header before the directory, got byte " + std::to_string(at));
  zip.expect(at, kLocal, "the header of an entry");
  const uint64_t name = zip.get<uint16_t>(at + 26), extra = zip.get<uint16_t>(at + 28);
  const bool sizes_follow = (central.flags & kSizesFollow) != 0;
  const auto matches = [&](uint64_t field, uint64_t expected) {
    const uint32_t value = zip.get<uint32_t>(at + field);
    return value == expected || value == UINT32_MAX;
  };
  if (zip.text(at + kLocalSize, name) != central.entry.name || zip.get<uint16_t>(at + 6) != central.flags ||
      zip.get<uint16_t>(at + 8) != 0 ||
      (!sizes_follow &&
       (zip.get<uint32_t>(at + 14) != central.entry.crc || !matches(18, central.size) || !matches(22, central.size))))
    zip.refuse(central.entry.name + ": expected a header at byte " + std::to_string(at) +
               " that agrees with the directory");
  central.entry.begin = at + kLocalSize + name + extra;
  if (central.entry.begin > directory.begin || central.size > directory.begin - central.entry.begin)
    zip.refuse(central.entry.name + ": expected data before the directory, got " + std::to_string(central.size) +
               " bytes at byte " + std::to_string(central.entry.begin));
  central.entry.end = central.entry.begin + central.size;
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(std::string_view bytes, const std::string& where) {
  const Fields zip(bytes, where);
  const Directory directory = find_directory(zip);
  std::vector<Central> found;
  std::unordered_set<std::string> names;
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    Central central = read_central(zip, at, directory);
    check_local(zip, central, directory);
    if (!names.insert(central.entry.name).second) zip.refuse(central.entry.name + ": expected once, got twice");
    found.push_back(std::move(central));
  }
  if (at != directory.end) zip.refuse("expected the zip directory to end at byte " + std::to_string(at));
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.local < b.local; });
  uint64_t end = 0;
  std::vector<ZipEntry> entries;
  for (auto& central : found) {
    if (central.local < end || (entries.empty() && central.local != 0))
      zip.refuse(central.entry.name + ": expected to begin at byte " + std::to_string(end) + ", got byte " +
                 std::to_string(central.local));
    end = central.entry.end;
    entries.push_back(std::move(central.entry));
  }
  return entries;
}

void check_crc(std::string_view bytes, const ZipEntry& entry, const std::string& where,
               const std::function<void(uint64_t, uint64_t)>& done) {
  constexpr uint64_t kStep = uint64_t{16} << 20;
  uLong crc = ::crc32(0, nullptr, 0);
  for (uint64_t at = entry.begin; at < entry.end; at += kStep) {
    const uint64_t end = std::min(at + kStep, entry.end);
    crc = ::crc32(crc, reinterpret_cast<const Bytef*>(bytes.data() + at), static_cast<uInt>(end - at));
    if (done) done(at, end);
  }
  if (crc != entry.crc)
    throw Error(ExitCode::kWeights, where + ": " + entry.name,
                "expected data of its CRC, got other data: a damaged file");
}

}  // namespace vlmamba::io
