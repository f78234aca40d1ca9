#include "vlmamba/io/images/decode.h"

#include "src/io/images/formats.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::io {

void refuse_image(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kData, where, message);
}

Image new_image(uint64_t width, uint64_t height, const std::string& where, uint64_t max_pixels) {
  if (width == 0 || height == 0 || width > max_pixels || height > max_pixels / width)
    refuse_image(where, "expected a picture of 1 to " + std::to_string(max_pixels) + " pixels, got " +
                            std::to_string(width) + " x " + std::to_string(height));
  return {static_cast<int>(width), static_cast<int>(height), std::vector<uint8_t>(width * height * 3)};
}

std::string_view image_format(std::string_view bytes) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("\xff\xd8\xff"sv)) return "JPEG";
  if (bytes.starts_with("\x89PNG\r\n\x1a\n"sv)) return "PNG";
  if (bytes.starts_with("RIFF"sv) && bytes.substr(0, 12).ends_with("WEBP"sv)) return "WEBP";
  if (bytes.starts_with("GIF87a"sv) || bytes.starts_with("GIF89a"sv)) return "GIF";
  return {};
}

Image decode_image(std::string_view bytes, const std::string& where, uint64_t max_pixels) {
  const auto format = image_format(bytes);
  if (format == "JPEG") return decode_jpeg(bytes, where, max_pixels);
  if (format == "PNG") return decode_png(bytes, where, max_pixels);
  if (format == "WEBP") return decode_webp(bytes, where, max_pixels);
  if (format == "GIF") return decode_gif(bytes, where, max_pixels);
  refuse_image(where, bytes.empty() ? "expected a picture, got an empty file"
                                    : "expected JPEG, PNG, WebP or GIF, got " + std::to_string(bytes.size()) +
                                          " bytes of something else");
}

Image read_image(const std::string& path) { return decode_image(read_file(path, ExitCode::kData), path); }

}  // namespace vlmamba::io
