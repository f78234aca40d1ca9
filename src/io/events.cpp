#include "vlmamba/io/events.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

namespace vlmamba::io {
namespace {

// Little-endian bytes of a number, as every machine we build for has them.
template <typename T>
std::string bytes_of(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

// Protocol buffer fields; wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
std::string field(int number, int wire_type) { return varint(static_cast<uint64_t>(number << 3 | wire_type)); }
std::string text_field(int number, std::string_view text) {
  return field(number, 2) + varint(text.size()) + std::string(text);
}

std::string event(double wall_time, int64_t step, const std::string& content) {
  return field(1, 1) + bytes_of(wall_time) + field(2, 0) + varint(static_cast<uint64_t>(step)) + content;
}

// TFRecord's mask: a checksum of data that holds checksums would be weak.
uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

double now() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
      table[i] = crc;
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

EventWriter::EventWriter(const std::string& folder) {
  make_folder(folder);
  const auto seconds = static_cast<int64_t>(now());
  file_ = std::make_unique<AppendFile>(folder + "/events.out.tfevents." + std::to_string(seconds) + "." +
                                       std::to_string(getpid()));
  write(event(now(), 0, text_field(3, "brain.Event:2")));
}

bool EventWriter::scalar(std::string_view tag, int64_t step, float value, double wall_time) {
  const std::string point = text_field(1, tag) + field(2, 5) + bytes_of(value);
  return write(event(wall_time, step, text_field(5, text_field(1, point))));
}

bool EventWriter::write(const std::string& event) {
  const std::string length = bytes_of(static_cast<uint64_t>(event.size()));
  return file_->append(length + bytes_of(masked(crc32c(length))) + event + bytes_of(masked(crc32c(event))));
}

}  // namespace vlmamba::io
