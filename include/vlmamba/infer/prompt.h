#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace vlmamba {

/// A picture as the encoder takes it, and a name that only equal pictures share.
struct Picture {
  explicit Picture(std::vector<float> pixels);
  std::vector<float> pixels;  ///< [3,S,S]
  std::string digest;
};
using PicturePtr = std::shared_ptr<const Picture>;

/// What is continued: ids with kImageToken once per picture, and the pictures in that order.
struct Prompt {
  std::vector<int64_t> ids;
  std::vector<PicturePtr> pictures;
};

/// The pieces that a prompt is read in: their ends, ascending; the last is the prompt's length. A piece ends behind
/// every picture and after every 64 ids of text, so that where it ends depends on nothing that follows.
std::vector<size_t> piece_ends(const std::vector<int64_t>& ids);

}  // namespace vlmamba
