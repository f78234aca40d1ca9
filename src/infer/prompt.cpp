#include "vlmamba/infer/prompt.h"

#include <string_view>

#include "vlmamba/core/tokens.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

constexpr size_t kPiece = 64;

}  // namespace

Picture::Picture(std::vector<float> values)
    : pixels(std::move(values)),
      digest(io::sha256({reinterpret_cast<const char*>(pixels.data()), pixels.size() * sizeof(float)})) {}

std::vector<size_t> piece_ends(const std::vector<int64_t>& ids) {
  std::vector<size_t> ends;
  size_t begin = 0;
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] == kImageToken || i + 1 - begin == kPiece) ends.push_back(begin = i + 1);
  if (begin < ids.size()) ends.push_back(ids.size());
  return ends;
}

}  // namespace vlmamba
