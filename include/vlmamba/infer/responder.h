#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/data/image_processor.h"
#include "vlmamba/data/prompt.h"
#include "vlmamba/infer/generator.h"

namespace vlmamba {

/// A question about pictures that were processed already.
struct Question {
  std::string id;
  std::string text;
  std::vector<PicturePtr> pictures;
  int64_t sequence = 0;  ///< its number, for sampling
};

/// The question with a place for each of its pictures: before the text, unless that places them itself. Throws Error
/// (data) where it places another number of them.
std::string with_places(const std::string& question, size_t pictures);

/// Pictures and text in, an answer out: the same prompt, processor and tokenizer as in training. Evaluation and the
/// command line both ask through it. What questions share is read once (infer/prefix_cache.h).
class Responder {
 public:
  struct Parts {
    std::shared_ptr<VlMamba> model;
    Tokenizer tokenizer;
    PromptConfig prompt;
    ImageProcessor image_processor;
  };
  /// `memory` bounds what is remembered of pictures and beginnings of prompts, in bytes.
  Responder(Parts parts, const SamplingConfig& sampling, uint64_t seed = 0,
            int64_t memory = PrefixCache::kDefaultBytes);

  /// The picture of a file as the encoder takes it. Throws Error (data).
  PicturePtr read_picture(const std::string& path) const;
  PicturePtr process(const io::Image& picture) const;
  /// A picture of nothing: the processor's mean colour.
  PicturePtr blank_picture() const;
  /// What the encoder is shown, as a picture again.
  io::Image shown(const Picture& picture) const { return parts_.image_processor.image(picture.pixels); }

  /// The ids of the prompt; a picture that the text does not place stands before it. Throws Error (data) where the text
  /// places another number of pictures than there are.
  std::vector<int64_t> prompt_ids(const Question& question) const;
  /// The ids of a conversation up to the answer to its last question.
  std::vector<int64_t> prompt_ids(const Record& conversation) const;
  /// The text of ids, special tokens and pictures (`<image>`) written out.
  std::string prompt_text(const std::vector<int64_t>& ids) const;

  /// Asks question after question, `batch` at a time: `next` is called whenever there is room, `answered` with the
  /// question's `sequence` whenever an answer ends, in any order, until there is no question left, or `stop` says so;
  /// then answers that are not finished are lost. Answers are stripped of special tokens and surrounding space.
  void ask(
      int64_t batch, const std::function<std::optional<Question>()>& next,
      const std::function<void(int64_t, const std::string&)>& answered,
      const std::function<bool()>& stop = [] { return false; }) const;

  /// Continues ids of one's own. `streamed`, if given, is called with every new id, and ends the answer by false.
  std::vector<int64_t> continue_ids(const Prompt& prompt, const std::function<bool(int64_t)>& streamed = nullptr) const;

  /// What is remembered stays.
  void set_sampling(const SamplingConfig& sampling, uint64_t seed);

  const Tokenizer& tokenizer() const { return parts_.tokenizer; }
  const PrefixCache::Counts& counts() const { return reader_->counts(); }

 private:
  Generator generator() const;

  Parts parts_;
  SamplingConfig sampling_;
  uint64_t seed_;
  std::shared_ptr<PrefixCache> reader_;
};

}  // namespace vlmamba
