#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/data/records.h"
#include "vlmamba/data/tokenizer.h"

namespace vlmamba {

enum class PromptTemplate { kPlain, kV1, kV1Neox };
constexpr auto enum_names(PromptTemplate) {
  return std::array{EnumName<PromptTemplate>{PromptTemplate::kPlain, "plain"},
                    EnumName<PromptTemplate>{PromptTemplate::kV1, "v1"},
                    EnumName<PromptTemplate>{PromptTemplate::kV1Neox, "v1_neox"}};
}
enum class ImagePosition { kInPlace, kBeforeText };
constexpr auto enum_names(ImagePosition) {
  return std::array{EnumName<ImagePosition>{ImagePosition::kInPlace, "in_place"},
                    EnumName<ImagePosition>{ImagePosition::kBeforeText, "before_text"}};
}

/// How a conversation becomes ids. `v1` is LLaVA-1.5's (vicuna_v1) with the tokenizer's end of text as its sep2;
/// `v1_neox` is another name for it. `plain` is LLaVA's stage 1: pictures, then the answer and a line feed.
struct PromptConfig {
  PromptTemplate template_name = PromptTemplate::kV1;
  ImagePosition image_position = ImagePosition::kInPlace;
  std::string system =
      "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
      "and polite "
      "answers to the user's questions.";
  bool special_as_text = false;
  bool learn_prompts = false;

  template <typename F>
  void visit(F& f) {
    f("template", template_name,
      "plain: caption after the picture; v1: LLaVA-1.5's conversation (v1_neox is the same)");
    f("image_position", image_position,
      "pictures where the text names them, or before all text (as the paper's formula)");
    f("system", system, "what stands before the first turn (v1)");
    f("special_as_text", special_as_text,
      "special tokens written out in a question or an answer are plain text; otherwise their ids, as Hugging Face");
    f("learn_prompts", learn_prompts, "train on the questions too, not only on the answers: language modelling");
  }
};

/// What stands in a text where a picture does.
constexpr std::string_view kPicturePlaceholder = "<image>";
size_t count_placeholders(std::string_view text);
/// The text without any of them, also where taking one out makes another.
std::string without_placeholders(std::string text);

/// Ids with kImageToken once per picture, and their labels: kIgnoreIndex where nothing is learnt.
struct Sample {
  std::vector<int64_t> input_ids, labels;
};

/// The record as its training sample shows it. A last question without an answer is left out; the picture of a record
/// with one stands where the human turns name it first, and is not shown where none does. `remark` says what was
/// changed. Throws Error (data) where nothing is answered, and for <image> in a record without a picture.
Record mended(Record record, std::string& remark);

/// The ids of a record and what is learnt of it: of v1 every answer with its end of text (and with learn_prompts all
/// other text), of plain the caption. Segments are tokenised apart, so that masks are exact and training ends where a
/// generation prompt ends. Throws Error (data).
Sample build_training_sample(const Record& record, const Tokenizer& tokenizer, const PromptConfig& config);

/// The ids of everything before the answer to the last human turn.
std::vector<int64_t> build_generation_prompt(const Record& record, const Tokenizer& tokenizer,
                                             const PromptConfig& config);

}  // namespace vlmamba
