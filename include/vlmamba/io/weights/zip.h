#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// One stored (not compressed) file of a zip archive.
struct ZipEntry {
  std::string name;
  uint64_t begin = 0, end = 0;  ///< its bytes in the archive
  uint32_t crc = 0;
};

/// The directory of a zip archive that lies in memory, as torch.save writes it: entries are stored, nothing is
/// encrypted, nothing stands before the first or behind the directory, names are unique, entries do not overlap. Sizes,
/// offsets and CRCs are those of the central directory, and the local headers must agree. Data is not read: see
/// check_crc. Throws Error (weights) that names the entry or the byte.
std::vector<ZipEntry> read_zip_directory(std::string_view bytes, const std::string& where);

/// Compares an entry's bytes with its CRC; `done(begin, end)` is told of each part that was read. Throws Error
/// (weights).
void check_crc(std::string_view bytes, const ZipEntry& entry, const std::string& where,
               const std::function<void(uint64_t, uint64_t)>& done = {});

}  // namespace vlmamba::io
