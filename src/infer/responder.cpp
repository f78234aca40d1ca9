#include "vlmamba/infer/responder.h"

#include "vlmamba/core/text.h"
#include "vlmamba/data/collator.h"

namespace vlmamba {

Responder::Responder(Parts parts, const SamplingConfig& sampling, uint64_t seed)
    : parts_(std::move(parts)), generator_(*parts_.model, sampling, parts_.tokenizer.end_of_text_id(), seed) {}

std::vector<float> Responder::read_picture(const std::string& path) const { return process(io::read_image(path)); }

std::vector<float> Responder::process(const io::Image& picture) const {
  return parts_.image_processor.process(picture);
}

std::vector<float> Responder::blank_picture() const {
  const auto size = static_cast<size_t>(parts_.image_processor.size());
  return std::vector<float>(3 * size * size);
}

std::vector<int64_t> Responder::prompt_ids(const Question& question) const {
  const std::string placeholder = question.text.find("<image>") == std::string::npos ? "<image>\n" : "";
  std::string text;
  for (size_t i = 0; i < question.pictures.size(); ++i) text += placeholder;
  Record record{question.id, {}, {{true, text + question.text}}, 0};
  record.images.resize(question.pictures.size());
  return build_generation_prompt(record, parts_.tokenizer, parts_.prompt);
}

std::vector<std::vector<int64_t>> Responder::continue_ids(const std::vector<std::vector<int64_t>>& prompts,
                                                          const std::vector<std::vector<std::vector<float>>>& pictures,
                                                          int64_t first_sequence) const {
  std::vector<Example> examples;
  std::vector<const Example*> rows;
  for (size_t i = 0; i < prompts.size(); ++i)
    examples.push_back({std::to_string(i), 0,
                        expand_pictures({prompts[i], {}}, parts_.model->vision_encoder->num_patches()), pictures[i]});
  for (const auto& example : examples) rows.push_back(&example);
  return generator_.generate(collate(rows, parts_.tokenizer.pad_id(), parts_.image_processor.size()), first_sequence);
}

std::vector<std::string> Responder::answer(const std::vector<Question>& questions, int64_t first_sequence) const {
  std::vector<std::vector<int64_t>> prompts;
  std::vector<std::vector<std::vector<float>>> pictures;
  for (const auto& question : questions) {
    prompts.push_back(prompt_ids(question));
    pictures.push_back(question.pictures);
  }
  std::vector<std::string> answers;
  for (const auto& ids : continue_ids(prompts, pictures, first_sequence))
    answers.push_back(stripped(parts_.tokenizer.decode(ids)));
  return answers;
}

}  // namespace vlmamba
