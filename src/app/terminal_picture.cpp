#include "src/app/terminal_picture.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "vlmamba/data/resize.h"

namespace vlmamba::app {
namespace {

constexpr int kColumns = 48;

}  // namespace

bool shows_colours() { return ::isatty(STDOUT_FILENO) != 0; }

void print_picture(const io::Image& picture) {
  const int width = std::min(kColumns, picture.width);
  const io::Image image = resize(picture, width, std::max(2, picture.height * width / picture.width / 2 * 2));
  const auto pixel = [&](int y, int x) {
    return image.rgb.data() + 3 * (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x));
  };
  const bool colours = shows_colours();
  for (int y = 0; y + 1 < image.height; y += 2) {
    for (int x = 0; x < width; ++x) {
      const uint8_t *up = pixel(y, x), *down = pixel(y + 1, x);
      if (colours)
        std::printf("\033[38;2;%d;%d;%dm\033[48;2;%d;%d;%dm▀", up[0], up[1], up[2], down[0], down[1], down[2]);
      else
        std::fputc(" .:-=+*#%@"[(up[0] + up[1] + up[2] + down[0] + down[1] + down[2]) * 10 / (6 * 256)], stdout);
    }
    std::printf(colours ? "\033[0m\n" : "\n");
  }
}

}  // namespace vlmamba::app
