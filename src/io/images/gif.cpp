#include <gif_lib.h>

#include <algorithm>
#include <cstring>

#include "src/io/images/formats.h"

namespace vlmamba::io {
namespace {

struct Reading {
  std::string_view bytes;
  size_t at;
};

int read_bytes(GifFileType* gif, GifByteType* to, int count) {
  auto* reading = static_cast<Reading*>(gif->UserData);
  const size_t size = std::min(static_cast<size_t>(count), reading->bytes.size() - reading->at);
  std::memcpy(to, reading->bytes.data() + reading->at, size);
  reading->at += size;
  return static_cast<int>(size);
}

// Goes forward to the first picture; false at the end or at damage.
bool find_picture(GifFileType* gif) {
  for (GifRecordType type; DGifGetRecordType(gif, &type) == GIF_OK && type != TERMINATE_RECORD_TYPE;) {
    if (type == IMAGE_DESC_RECORD_TYPE) return DGifGetImageDesc(gif) == GIF_OK;
    int code = 0;
    GifByteType* block = nullptr;
    if (type != EXTENSION_RECORD_TYPE || DGifGetExtension(gif, &code, &block) == GIF_ERROR) return false;
    while (block != nullptr)
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return false;
  }
  return false;
}

// The lines of the frame in the order of the file.
std::vector<int> line_order(const GifImageDesc& frame) {
  std::vector<int> lines;
  if (!frame.Interlace) {
    for (int y = 0; y < frame.Height; ++y) lines.push_back(y);
    return lines;
  }
  for (const auto& [first, step] : {std::pair{0, 8}, {4, 8}, {2, 4}, {1, 2}})
    for (int y = first; y < frame.Height; y += step) lines.push_back(y);
  return lines;
}

bool read_frame(GifFileType* gif, Image& image) {
  const GifImageDesc& frame = gif->Image;
  const ColorMapObject* colors = frame.ColorMap ? frame.ColorMap : gif->SColorMap;
  if (colors == nullptr || frame.Width <= 0 || frame.Height <= 0) return false;
  if (gif->SColorMap && gif->SBackGroundColor < gif->SColorMap->ColorCount) {
    const GifColorType& c = gif->SColorMap->Colors[0];  // Pillow fills what the frame leaves with index 0
    for (size_t i = 0; i < image.rgb.size(); i += 3)
      image.rgb[i] = c.Red, image.rgb[i + 1] = c.Green, image.rgb[i + 2] = c.Blue;
  }
  std::vector<GifPixelType> line(static_cast<size_t>(frame.Width));
  for (const int y : line_order(frame)) {
    if (DGifGetLine(gif, line.data(), frame.Width) == GIF_ERROR) return false;
    for (int x = 0; x < frame.Width; ++x) {
      const int row = frame.Top + y, column = frame.Left + x, index = line[static_cast<size_t>(x)];
      if (row >= image.height || column >= image.width) continue;
      const GifColorType color = index < colors->ColorCount ? colors->Colors[index] : GifColorType{0, 0, 0};
      uint8_t* out = image.rgb.data() +
                     3 * (static_cast<size_t>(row) * static_cast<size_t>(image.width) + static_cast<size_t>(column));
      out[0] = color.Red, out[1] = color.Green, out[2] = color.Blue;
    }
  }
  return true;
}

}  // namespace

Image decode_gif(std::string_view bytes, const std::string& where, uint64_t max_pixels) {
  Reading reading{bytes, 0};
  int code = 0;
  GifFileType* gif = DGifOpen(&reading, read_bytes, &code);
  Image image;
  bool good = false;
  try {
    if (gif != nullptr && find_picture(gif)) {
      image = new_image(static_cast<uint64_t>(gif->SWidth), static_cast<uint64_t>(gif->SHeight), where, max_pixels);
      good = read_frame(gif, image);
    }
  } catch (...) {
    DGifCloseFile(gif, &code);
    throw;
  }
  if (gif != nullptr) DGifCloseFile(gif, &code);
  if (!good)
    refuse_image(where,
                 "expected a whole GIF, got " + std::to_string(bytes.size()) + " bytes that are damaged or end early");
  return image;
}

}  // namespace vlmamba::io
