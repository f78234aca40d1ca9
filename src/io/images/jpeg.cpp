// libjpeg-turbo. Its errors return through longjmp, so that no object with a destructor lives between setjmp and there.

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <utility>

// Needs what stands above it.
#include <jpeglib.h>

#include "src/io/images/formats.h"

namespace vlmamba::io {
namespace {

struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  manager->base.format_message(info, manager->message);
  std::longjmp(manager->escape, 1);
}

// Warnings speak of damaged data (a file that ends early is one), which Pillow refuses too.
void on_message(j_common_ptr info, int level) {
  if (level < 0) on_error(info);
}

// Where the rows go: allocated once the header has been read.
struct Target {
  const std::string& where;
  uint64_t max_pixels;
  Image image;
  std::vector<uint8_t> row;
};

bool is_cmyk(const jpeg_decompress_struct& info) { return info.out_color_space == JCS_CMYK; }

void start(jpeg_decompress_struct& info, Target& target) {
  target.image = new_image(info.image_width, info.image_height, target.where, target.max_pixels);
  if (info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK)
    info.out_color_space = JCS_CMYK;
  else
    info.out_color_space = JCS_RGB;
  target.row.resize(static_cast<size_t>(info.image_width) * 4);
}

// Pillow: Adobe's CMYK is stored inverted; RGB = 255 - min(255, C + K), with its rounding of the product.
void store_cmyk(const jpeg_decompress_struct& info, const Target& target, uint8_t* out) {
  for (size_t x = 0; x < info.image_width; ++x) {
    const uint8_t* pixel = target.row.data() + 4 * x;
    const bool inverted = info.saw_Adobe_marker;
    const int k = inverted ? pixel[3] : 255 - pixel[3];
    for (size_t c = 0; c < 3; ++c) {
      const int ink = inverted ? 255 - pixel[c] : pixel[c];
      const int product = ink * k + 128;
      out[3 * x + c] = static_cast<uint8_t>(std::max(0, k - (((product >> 8) + product) >> 8)));
    }
  }
}

void read_row(jpeg_decompress_struct& info, Target& target) {
  uint8_t* out = target.image.rgb.data() + static_cast<size_t>(info.output_scanline) * info.image_width * 3;
  JSAMPROW row = is_cmyk(info) ? target.row.data() : out;
  jpeg_read_scanlines(&info, &row, 1);
  if (is_cmyk(info)) store_cmyk(info, target, out);
}

// False if libjpeg gave up; its message is in `errors`.
bool decode(std::string_view bytes, jpeg_decompress_struct& info, ErrorManager& errors, Target& target) {
  if (setjmp(errors.escape) != 0) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&info, TRUE);
  start(info, target);
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) read_row(info, target);
  jpeg_finish_decompress(&info);
  return true;
}

}  // namespace

Image decode_jpeg(std::string_view bytes, const std::string& where, uint64_t max_pixels) {
  jpeg_decompress_struct info{};
  ErrorManager errors{};
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = on_error;
  errors.base.emit_message = on_message;
  Target target{where, max_pixels, {}, {}};
  try {
    const bool good = decode(bytes, info, errors, target);
    jpeg_destroy_decompress(&info);
    if (!good)
      refuse_image(where, "expected a whole JPEG, got " + std::to_string(bytes.size()) + " bytes: " + errors.message);
  } catch (...) {
    jpeg_destroy_decompress(&info);
    throw;
  }
  return std::move(target.image);
}

}  // namespace vlmamba::io
