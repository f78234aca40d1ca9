#include "vlmamba/io/weights/torch_pickle.h"

#include <algorithm>
#include <cctype>

#include "vlmamba/core/error.h"
#include "vlmamba/io/weights/zip.h"

namespace vlmamba::io {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

constexpr const char* kConvert =
    "; convert it once in Python: torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), NEW_FILE)";
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19", 14);
constexpr size_t kTarMagicAt = 257;

// torch.save before 1.6 wrote bare pickles, and before 0.2 tar archives.
void refuse_legacy(std::string_view bytes, const std::string& where) {
  if (bytes.starts_with(kLegacyMagic))
    refuse(where, "expected a zip archive of torch.save, got its format of before 1.6" + std::string(kConvert));
  if (bytes.size() > kTarMagicAt + 5 && bytes.substr(kTarMagicAt, 5) == "ustar")
    refuse(where, "expected a zip archive of torch.save, got a tar archive" + std::string(kConvert));
}

bool is_key(std::string_view name) {
  return !name.empty() && name.size() <= 64 &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

// The entries of one archive, all in one folder, each with a name that torch.save gives.
struct Records {
  const ZipEntry* pickle = nullptr;
  std::vector<TorchStorage> storages;
};

Records sort_records(const std::vector<ZipEntry>& entries, std::string_view bytes, const std::string& where) {
  Records records;
  const std::string folder = entries.empty() ? "" : entries[0].name.substr(0, entries[0].name.find('/') + 1);
  for (const auto& entry : entries) {
    if (folder.empty() || !entry.name.starts_with(folder))
      refuse(where, "expected all records in one folder, got \"" + entry.name.substr(0, 200) + "\"");
    const std::string_view name = std::string_view(entry.name).substr(folder.size());
    if (name.starts_with("code/") || name == "constants.pkl" || name.ends_with(".py"))
      refuse(where, "expected tensors, got a program (TorchScript or a package), which this program never loads: \"" +
                        entry.name.substr(0, 200) + "\"");
    if (name == "data.pkl")
      records.pickle = &entry;
    else if (name.starts_with("data/") && is_key(name.substr(5)))
      records.storages.push_back({std::string(name.substr(5)), entry.begin, entry.end});
    else if (name == "byteorder" && bytes.substr(entry.begin, entry.end - entry.begin) != "little")
      refuse(where, "byteorder: expected little, got another");
    else if (name != "byteorder" && name != "version" && name != ".data/serialization_id" &&
             name != ".format_version" && name != ".storage_alignment")
      refuse(where, "expected the records of torch.save, got \"" + entry.name.substr(0, 200) + "\"");
  }
  if (records.pickle == nullptr) refuse(where, "expected the record data.pkl, got none");
  return records;
}

}  // namespace

bool looks_like_torch_file(std::string_view bytes) {
  return bytes.starts_with("PK\x03\x04") || bytes.starts_with(kLegacyMagic) ||
         (bytes.size() > kTarMagicAt + 5 && bytes.substr(kTarMagicAt, 5) == "ustar");
}

WeightTable parse_torch_file(std::string_view bytes, const std::string& where, std::string_view prefix,
                             const PartDone& done) {
  refuse_legacy(bytes, where);
  const auto entries = read_zip_directory(bytes, where);
  const Records records = sort_records(entries, bytes, where);
  for (const auto& entry : entries) check_crc(bytes, entry, where, done);
  const auto& pickle = *records.pickle;
  return read_torch_tensors(bytes.substr(pickle.begin, pickle.end - pickle.begin), records.storages, bytes.size(),
                            where, prefix);
}

}  // namespace vlmamba::io
