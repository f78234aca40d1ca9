#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace vlmamba::io {

/// CRC-32C (Castagnoli polynomial, reflected) of `bytes`; "123456789" gives 0xe3069283.
uint32_t crc32c(std::string_view bytes);

/// Writes scalars that TensorBoard shows: a file of framed `Event` messages (tensorflow/core/util/event.proto), encoded
/// by hand. Each call is flushed, so that a running program can be watched.
class EventWriter {
 public:
  /// Makes `folder` and in it a new event file. Throws Error (kIo) if that fails.
  explicit EventWriter(const std::string& folder);

  /// One point of the curve `tag`. `wall_time` in seconds since 1970.
  void scalar(std::string_view tag, int64_t step, float value, double wall_time);

 private:
  void write(std::string_view event);

  std::string path_;
  std::ofstream file_;
};

}  // namespace vlmamba::io
