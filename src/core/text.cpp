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
