#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/data/image_processor.h"
#include "vlmamba/data/prompt.h"
#include "vlmamba/data/records.h"

namespace vlmamba {

/// A record ready for a batch: every picture takes as many positions as it has patches.
struct Example {
  std::string id;
  size_t source = 0;                         ///< index of the record's set
  Sample sample;                             ///< L ids and labels
  std::vector<std::vector<float>> pictures;  ///< [3, S, S] each
};

/// What records need to become examples. Sizes come from the model, which this room never sees.
struct ExampleReader {
  Tokenizer tokenizer;
  PromptConfig prompt;
  ImageProcessor image_processor;
  std::vector<std::string> image_roots;  ///< by the record's source
  int64_t tokens_per_image;
  int64_t max_length;  ///< positions, pictures included; a longer example is cut at its end

  /// Reads pictures, builds ids and labels, expands pictures, cuts. Safe to call from many threads. Throws Error (data)
  /// for what cannot be read, where the cut goes through a picture, and where nothing is left to learn.
  Example read(const Record& record) const;
};

/// The path of a record's picture: `image` below `root`, or as it is where root is empty.
std::string picture_path(const std::string& root, const std::string& image);

/// Each kImageToken as often as a picture has patches. Labels, if any, are expanded beside the ids.
Sample expand_pictures(const Sample& sample, int64_t tokens_per_image);

}  // namespace vlmamba
