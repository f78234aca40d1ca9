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

/// What records need to become examples. Sizes come from the model, which this room never sees. All is safe to call
/// from many threads, and throws Error (data) for what cannot be read.
struct ExampleReader {
  Tokenizer tokenizer;
  PromptConfig prompt;
  ImageProcessor image_processor;
  std::vector<std::string> image_roots;  ///< by the record's source
  int64_t tokens_per_image;
  int64_t max_length;  ///< positions, pictures included; a longer example is cut at its end

  /// Reads pictures, builds ids and labels, expands pictures, cuts. Throws where the cut goes through a picture too,
  /// and where nothing is left to learn.
  Example read(const Record& record) const;

  /// The steps of that: ids and labels in full length; their cut; the pictures.
  Sample tokenize(const Record& record) const;
  void cut(Sample& sample, const Record& record) const;
  std::vector<std::vector<float>> read_pictures(const Record& record) const;
};

/// The path of a record's picture: `image` below `root`, or as it is where root is empty.
std::string picture_path(const std::string& root, const std::string& image);

/// Does a picture's path leave the folder that it starts from?
bool leaves_root(const std::string& image);

/// Each kImageToken as often as a picture has patches. Labels, if any, are expanded beside the ids.
Sample expand_pictures(const Sample& sample, int64_t tokens_per_image);

/// Is there anything to learn? Nothing precedes the first position, so that it is no target.
bool has_target(const Sample& sample);

}  // namespace vlmamba
