#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "vlmamba/io/file_writer.h"

namespace vlmamba::io {

/// CRC-32C (Castagnoli polynomial, reflected) of `bytes`; "123456789" gives 0xe3069283.
uint32_t crc32c(std::string_view bytes);

/// Writes scalars that TensorBoard shows: a file of framed `Event` messages (tensorflow/core/util/event.proto), encoded
/// by hand. Each call is flushed, so that a running program can be watched.
class EventWriter {
 public:
  /// Makes `folder` and in it a new event file. Throws WriteError.
  explicit EventWriter(const std::string& folder);

  /// One point of the curve `tag`. `wall_time` in seconds since 1970. False if the disk does not take it yet, see
  /// AppendFile.
  bool scalar(std::string_view tag, int64_t step, float value, double wall_time);

 private:
  bool write(const std::string& event);

  std::unique_ptr<AppendFile> file_;
};

}  // namespace vlmamba::io
