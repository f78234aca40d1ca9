#include "vlmamba/io/images/png.h"

#include <png.h>

#include <algorithm>
#include <cstring>

#include "src/io/images/formats.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::io {
namespace {

constexpr uint32_t kMaxChunk = 64u << 20;  // bytes of one text or profile chunk

struct Reading {
  std::string_view bytes;
  size_t at;
  char message[256];
};

void read_bytes(png_structp png, png_bytep to, size_t count) {
  auto* reading = static_cast<Reading*>(png_get_io_ptr(png));
  if (count > reading->bytes.size() - reading->at) png_error(png, "the file ends early");
  std::memcpy(to, reading->bytes.data() + reading->at, count);
  reading->at += count;
}

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* reading = static_cast<Reading*>(png_get_error_ptr(png));
  std::strncpy(reading->message, message, sizeof reading->message - 1);
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

struct Target {
  const std::string& where;
  uint64_t max_pixels;
  Image image;
  std::vector<uint8_t> pixels;  // as libpng gives them
  std::vector<png_bytep> rows;
  bool wide_grey;
};

void start(png_structp png, png_infop info, Target& target) {
  const uint32_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
  target.image = new_image(width, height, target.where, target.max_pixels);
  const int type = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
  target.wide_grey = depth == 16 && type == PNG_COLOR_TYPE_GRAY;
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (depth == 16 && !target.wide_grey) png_set_strip_16(png);
  if ((type & PNG_COLOR_MASK_ALPHA) || type == PNG_COLOR_TYPE_PALETTE)
    png_set_strip_alpha(png);  // a palette may have some
  if (!target.wide_grey && (type == PNG_COLOR_TYPE_GRAY || type == PNG_COLOR_TYPE_GRAY_ALPHA)) png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  const size_t row_bytes = png_get_rowbytes(png, info);
  target.pixels.resize(row_bytes * height);
  for (uint32_t y = 0; y < height; ++y) target.rows.push_back(target.pixels.data() + y * row_bytes);
}

bool decode(Reading& reading, png_structp png, png_infop info, Target& target) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &reading, read_bytes);
  png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
  png_set_chunk_malloc_max(png, kMaxChunk);
  png_read_info(png, info);
  start(png, info, target);
  png_read_image(png, target.rows.data());
  png_read_end(png, nullptr);
  return true;
}

void append(png_structp png, png_bytep from, size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(from), count);
}
void flush(png_structp) {}

}  // namespace

Image decode_png(std::string_view bytes, const std::string& where, uint64_t max_pixels) {
  Reading reading{bytes, 0, {}};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  Target target{where, max_pixels, {}, {}, {}, false};
  try {
    if (!info || !decode(reading, png, info, target))
      refuse_image(where, "expected a whole PNG, got " + std::to_string(bytes.size()) + " bytes: " + reading.message);
  } catch (...) {
    png_destroy_read_struct(&png, &info, nullptr);
    throw;
  }
  png_destroy_read_struct(&png, &info, nullptr);
  if (!target.wide_grey) {
    target.image.rgb = std::move(target.pixels);
    return std::move(target.image);
  }
  for (size_t i = 0; i < target.pixels.size() / 2; ++i) {
    const int value = target.pixels[2 * i] << 8 | target.pixels[2 * i + 1];
    std::fill_n(target.image.rgb.begin() + static_cast<std::ptrdiff_t>(3 * i), 3,
                static_cast<uint8_t>(std::min(value, 255)));
  }
  return std::move(target.image);
}

std::string encode_png(const Image& image) {
  Reading errors{};
  std::string bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &errors, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : nullptr;
  std::vector<png_bytep> rows;
  for (int y = 0; y < image.height; ++y)
    rows.push_back(
        const_cast<png_bytep>(image.rgb.data() + static_cast<size_t>(y) * static_cast<size_t>(image.width) * 3));
  if (!info || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_write_struct(&png, &info);
    throw Error(ExitCode::kInternal, "PNG", std::string("expected to encode a picture, got: ") + errors.message);
  }
  png_set_write_fn(png, &bytes, append, flush);
  png_set_IHDR(png, info, static_cast<uint32_t>(image.width), static_cast<uint32_t>(image.height), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  png_write_image(png, rows.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

void write_png(const std::string& path, const Image& image) { write_file_atomically(path, encode_png(image)); }

}  // namespace vlmamba::io
