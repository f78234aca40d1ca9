#include "vlmamba/data/record_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "src/data/record_index.h"
#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"

namespace vlmamba {
namespace {

constexpr double kSlow = 2;  // seconds of indexing that are worth a line

// The bytes of the white space character at the start of a text (UTF-8), or 0.
size_t space_size(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned first = byte(0), second = byte(1), third = byte(2);
  if (first == ' ' || (first >= 0x09 && first <= 0x0d) || (first >= 0x1c && first <= 0x1f)) return 1;
  if (first == 0xc2 && (second == 0x85 || second == 0xa0)) return 2;
  const unsigned code = (first & 0xf) << 12 | (second & 0x3f) << 6 | (third & 0x3f);
  const bool wide = code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
                    code == 0x202f || code == 0x205f || code == 0x3000;
  return first >> 4 == 0xe && wide ? 3 : 0;
}

}  // namespace

int64_t count_words(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const size_t space = space_size(text.substr(at));
    words += space == 0 && !inside ? 1 : 0;
    inside = space == 0;
    at += std::max<size_t>(space, 1);
  }
  return words;
}

RecordFile::RecordFile(std::string path, const std::string& cache) : path_(std::move(path)) {
  const io::MappedFile file(path_, ExitCode::kData);
  if (auto kept = load_record_index(cache, file)) {
    entries_ = std::move(*kept);
  } else {
    const auto start = std::chrono::steady_clock::now();
    entries_ = scan_records(file);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (seconds > kSlow)
      log::info("indexed " + std::to_string(entries_.size()) + " records of " + path_ + " in " +
                std::to_string(static_cast<int64_t>(seconds)) + " s");
    keep_record_index(cache, file, entries_);
  }
  descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0)
    throw Error(ExitCode::kData, path_, "expected a file to read, got: " + std::string(std::strerror(errno)));
}

RecordFile::~RecordFile() { ::close(descriptor_); }

Record RecordFile::read(int64_t number) const {
  const RecordEntry& at = entry(number);
  const std::string place = record_place(path_, number, at.begin);
  std::string text(at.size, '\0');
  for (size_t done = 0; done < text.size();) {
    const ssize_t count =
        ::pread(descriptor_, text.data() + done, text.size() - done, static_cast<off_t>(at.begin + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw Error(
          ExitCode::kData, place,
          "expected " + std::to_string(text.size()) + " bytes, got " +
              (count < 0 ? std::string(std::strerror(errno)) : "the end of the file: it was cut since it was indexed"));
    done += static_cast<size_t>(count);
  }
  return parse_record(io::parse_json(text, place, ExitCode::kData, false, at.line), place);
}

}  // namespace vlmamba
