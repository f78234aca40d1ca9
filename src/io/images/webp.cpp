#include <webp/decode.h>
#include <webp/demux.h>

#include "src/io/images/formats.h"

namespace vlmamba::io {

Image decode_webp(std::string_view bytes, const std::string& where, uint64_t max_pixels) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto refuse = [&] {
    refuse_image(where,
                 "expected a whole WebP, got " + std::to_string(bytes.size()) + " bytes that are damaged or end early");
  };
  const WebPData whole{data, bytes.size()};
  WebPDemuxer* demuxer = WebPDemux(&whole);
  WebPIterator first;
  if (demuxer == nullptr || !WebPDemuxGetFrame(demuxer, 1, &first)) {
    WebPDemuxDelete(demuxer);
    refuse();
  }
  const WebPData frame = first.fragment;  // points into `bytes`
  WebPDemuxReleaseIterator(&first);
  WebPDemuxDelete(demuxer);
  int width = 0, height = 0;
  if (!WebPGetInfo(frame.bytes, frame.size, &width, &height)) refuse();
  Image image = new_image(static_cast<uint64_t>(width), static_cast<uint64_t>(height), where, max_pixels);
  if (!WebPDecodeRGBInto(frame.bytes, frame.size, image.rgb.data(), image.rgb.size(), 3 * width)) refuse();
  return image;
}

}  // namespace vlmamba::io
