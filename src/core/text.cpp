#include "vlmamba/core/text.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace vlmamba {
namespace {

constexpr size_t kMostCompared = 2000;

size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j)
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])}));
  }
  return row.back();
}

}  // namespace

std::string printable(std::string_view text, std::string_view kept) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const bool c1 = byte == 0xc2 && next >= 0x80 && next < 0xa0;  // U+0080 to U+009F in UTF-8
    const bool control = (byte < 0x20 || byte == 0x7f || c1) && kept.find(text[i]) == std::string_view::npos;
    if (!control) {
      shown += text[i];
      continue;
    }
    const unsigned char code = c1 ? next : byte;
    shown += {'\\', 'x', kDigits[code >> 4], kDigits[code & 15]};
    i += c1 ? 1 : 0;
  }
  return shown;
}

std::string nearest(std::string_view name, const std::vector<std::string>& names) {
  std::string best;
  size_t least = 2 + name.size() / 4 + 1;
  for (size_t i = 0; i < std::min(names.size(), kMostCompared); ++i) {
    if (names[i].size() > name.size() + least || name.size() > names[i].size() + least) continue;
    if (const size_t d = distance(names[i], name); d < least) {
      least = d;
      best = names[i];
    }
  }
  return best;
}

}  // namespace vlmamba
