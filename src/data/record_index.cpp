#include "src/data/record_index.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSpaces = " \t\r\n";
constexpr uint64_t kReleasedAtOnce = 8 << 20;  // bytes of the file that are given back together
constexpr size_t kHashLength = 64;
static_assert(sizeof(RecordEntry) == 24, "entries are kept as they lie in memory");

// Beginning, size, line and what the record says of itself.
RecordEntry entry_of(std::string_view text, std::string_view value, int64_t line, int64_t number,
                     const std::string& path) {
  RecordEntry entry;
  entry.begin = static_cast<uint64_t>(value.data() - text.data());
  if (value.size() > std::numeric_limits<uint32_t>::max())
    throw Error(ExitCode::kData, record_place(path, number, entry.begin),
                "expected at most 4 GiB, got " + std::to_string(value.size()) + " bytes");
  entry.size = static_cast<uint32_t>(value.size());
  entry.line = static_cast<uint32_t>(line);
  try {
    const std::string place = record_place(path, number, entry.begin);
    const io::Json json = io::parse_json(value, place, ExitCode::kData, false, line);
    const Record record = parse_record(json, place);
    int64_t words = 0;
    for (const io::Json& turn : json.find("conversations")->items())
      words += count_words(turn.find("value")->as_string());
    entry.words = static_cast<uint32_t>(words);
    entry.pictures = static_cast<uint16_t>(std::min<size_t>(record.images.size(), UINT16_MAX));
  } catch (const Error&) {
    entry.malformed = 1;
  }
  return entry;
}

// What makes an index one of this file as it is now.
std::string key_of(const io::MappedFile& file) {
  io::Json key = io::Json::object();
  key.append("format", "vlmamba record index 1");
  key.append("path", fs::absolute(file.path()).lexically_normal().string());
  key.append("size", static_cast<int64_t>(file.bytes().size()));
  key.append("modified", file.modified());
  return key.to_string();
}

}  // namespace

std::string record_place(const std::string& path, int64_t number, uint64_t byte) {
  return path + ": byte " + std::to_string(byte) + ", record " + std::to_string(number);
}

void for_each_record_text(const io::MappedFile& file, const io::EachText& each) {
  const std::string_view text = io::without_mark(file.bytes());
  uint64_t released = 0;
  const io::EachText then_release = [&](std::string_view value, int64_t line) {
    each(value, line);
    const auto begin = static_cast<uint64_t>(value.data() - file.bytes().data());
    if (begin - released < kReleasedAtOnce) return;
    file.release(released, begin);
    released = begin;
  };
  if (fs::path(file.path()).extension() == ".jsonl") {
    io::for_each_line_text(text, then_release);
  } else {
    const auto first = text.find_first_not_of(kSpaces);
    if (first != std::string_view::npos && text[first] == '{')
      throw Error(ExitCode::kData, file.path(), "expected an array of records, got an object");
    io::for_each_element_text(text, file.path(), ExitCode::kData, then_release);
  }
  file.check_unchanged();
}

std::vector<RecordEntry> scan_records(const io::MappedFile& file) {
  std::vector<RecordEntry> entries;
  for_each_record_text(file, [&](std::string_view value, int64_t line) {
    entries.push_back(entry_of(file.bytes(), value, line, static_cast<int64_t>(entries.size()), file.path()));
  });
  return entries;
}

// The file: the key, a line feed, the entries, and the SHA-256 of all that.
std::optional<std::vector<RecordEntry>> load_record_index(const std::string& cache, const io::MappedFile& file) {
  if (cache.empty() || !fs::exists(cache)) return std::nullopt;
  const auto ignored = [&](const std::string& why) {
    log::info("index " + cache + " " + why + "; it is made anew");
    return std::nullopt;
  };
  try {
    const std::string bytes = io::read_file(cache, ExitCode::kIo);
    if (bytes.size() < kHashLength) return ignored("is damaged");
    const std::string_view kept(bytes.data(), bytes.size() - kHashLength);
    if (io::sha256(kept) != std::string_view(bytes).substr(kept.size())) return ignored("is damaged");
    const std::string key = key_of(file) + "\n";
    if (kept.substr(0, key.size()) != key) return ignored("belongs to an earlier " + file.path());
    std::vector<RecordEntry> entries((kept.size() - key.size()) / sizeof(RecordEntry));
    if (!entries.empty()) std::memcpy(entries.data(), kept.data() + key.size(), entries.size() * sizeof(RecordEntry));
    return entries;
  } catch (const Error& error) {
    return ignored("cannot be read (" + std::string(error.what()) + ")");
  }
}

void keep_record_index(const std::string& cache, const io::MappedFile& file, const std::vector<RecordEntry>& entries) {
  if (cache.empty()) return;
  std::string bytes = key_of(file) + "\n";
  bytes.append(reinterpret_cast<const char*>(entries.data()), entries.size() * sizeof(RecordEntry));
  bytes += io::sha256(bytes);
  try {
    std::error_code failed;
    fs::create_directories(fs::path(cache).parent_path(), failed);
    io::write_file_atomically(cache, bytes);
  } catch (const Error& error) {
    log::warn("the index of " + file.path() + " is not kept: " + error.what());
  }
}

}  // namespace vlmamba
