#pragma once

#include "vlmamba/io/images/decode.h"

namespace vlmamba::app {

/// Prints a picture of at most 48 columns: two pixels a character where standard output shows colours, grey letters
/// elsewhere.
void print_picture(const io::Image& picture);

/// Does standard output show colours?
bool shows_colours();

}  // namespace vlmamba::app
