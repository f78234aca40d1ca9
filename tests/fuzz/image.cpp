// Pictures of every format, small ones: a few bytes can claim to be huge, and time is better spent elsewhere.

#include "tests/fuzz/target.h"
#include "vlmamba/io/images/decode.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto image = io::decode_image(fuzz::text_of(data, size), "input", /*max_pixels=*/1 << 16);
    fuzz::require(image.rgb.size() == static_cast<size_t>(image.width) * static_cast<size_t>(image.height) * 3);
  });
  return 0;
}
