#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/data/record_file.h"
#include "vlmamba/io/json_stream.h"
#include "vlmamba/io/mapped_file.h"

namespace vlmamba {

/// How messages name a record of a file.
std::string record_place(const std::string& path, int64_t number, uint64_t byte);

/// The text of one record after another, and the line it starts on. Memory does not grow with the file. Throws Error
/// (data) for a file that is neither a JSON array nor, called `.jsonl`, JSON lines.
void for_each_record_text(const io::MappedFile& file, const io::EachText& each);

/// Finds the records of a file.
std::vector<RecordEntry> scan_records(const io::MappedFile& file);

/// An index that was kept: none where there is none, or where it is damaged or of another file or another version of
/// it, which a log line says.
std::optional<std::vector<RecordEntry>> load_record_index(const std::string& cache, const io::MappedFile& file);
/// Keeps an index. A cache that cannot be written is only a warning.
void keep_record_index(const std::string& cache, const io::MappedFile& file, const std::vector<RecordEntry>& entries);

}  // namespace vlmamba
