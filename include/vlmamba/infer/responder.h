#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vlmamba/data/example.h"
#include "vlmamba/infer/generator.h"

namespace vlmamba {

/// A question about pictures that were processed already.
struct Question {
  std::string id;
  std::string text;
  std::vector<std::vector<float>> pictures;  ///< [3, S, S] each
};

/// Pictures and text in, an answer out: the same prompt, processor and tokenizer as in training. Evaluation and the
/// command line both ask through it.
class Responder {
 public:
  struct Parts {
    std::shared_ptr<VlMamba> model;
    Tokenizer tokenizer;
    PromptConfig prompt;
    ImageProcessor image_processor;
  };
  Responder(Parts parts, const SamplingConfig& sampling, uint64_t seed = 0);

  /// The picture of a file as the encoder takes it. Throws Error (data).
  std::vector<float> read_picture(const std::string& path) const;
  std::vector<float> process(const io::Image& picture) const;
  /// A picture of nothing: the processor's mean colour.
  std::vector<float> blank_picture() const;

  /// The ids of the prompt; a picture that the text does not place stands before it.
  std::vector<int64_t> prompt_ids(const Question& question) const;

  /// The answers, stripped of special tokens and surrounding space, as one batch. `first_sequence` numbers the
  /// questions for sampling.
  std::vector<std::string> answer(const std::vector<Question>& questions, int64_t first_sequence = 0) const;

  /// The new ids after prompt ids of one's own (kImageToken once a picture).
  std::vector<std::vector<int64_t>> continue_ids(const std::vector<std::vector<int64_t>>& prompts,
                                                 const std::vector<std::vector<std::vector<float>>>& pictures,
                                                 int64_t first_sequence = 0) const;

 private:
  Parts parts_;
  Generator generator_;
};

}  // namespace vlmamba
