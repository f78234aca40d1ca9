#include "vlmamba/infer/responder.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "vlmamba/core/text.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {

Responder::Responder(Parts parts, const SamplingConfig& sampling, uint64_t seed, int64_t memory)
    : parts_(std::move(parts)),
      sampling_(sampling),
      seed_(seed),
      reader_(std::make_shared<PrefixCache>(*parts_.model, memory)) {}

PicturePtr Responder::read_picture(const std::string& path) const { return process(io::read_image(path)); }

PicturePtr Responder::process(const io::Image& picture) const {
  return std::make_shared<Picture>(parts_.image_processor.process(picture));
}

PicturePtr Responder::blank_picture() const {
  const auto size = static_cast<size_t>(parts_.image_processor.size());
  return std::make_shared<Picture>(std::vector<float>(3 * size * size));
}

std::string with_places(const std::string& question, size_t pictures) {
  constexpr std::string_view kPlace = "<image>";
  size_t places = 0;
  for (size_t at = question.find(kPlace); at != std::string::npos; at = question.find(kPlace, at + 1)) ++places;
  if (pictures == 0 || places == pictures) return question;
  if (places > 0)
    throw Error(ExitCode::kData, "question",
                "expected " + std::to_string(pictures) + " <image>, one for each picture, or none, got " +
                    std::to_string(places));
  std::string text;
  for (size_t i = 0; i < pictures; ++i) text += std::string(kPlace) + "\n";
  return text + question;
}

std::vector<int64_t> Responder::prompt_ids(const Question& question) const {
  Record record{question.id, {}, {{true, with_places(question.text, question.pictures.size())}}, 0};
  record.images.resize(question.pictures.size());
  return prompt_ids(record);
}

std::vector<int64_t> Responder::prompt_ids(const Record& conversation) const {
  return build_generation_prompt(conversation, parts_.tokenizer, parts_.prompt);
}

std::string Responder::prompt_text(const std::vector<int64_t>& ids) const {
  std::string text;
  for (auto at = ids.begin(); at != ids.end();) {
    const auto picture = std::find(at, ids.end(), kImageToken);
    text += parts_.tokenizer.decode({at, picture}, /*skip_special=*/false);
    if (picture == ids.end()) break;
    text += "<image>";
    at = picture + 1;
  }
  return text;
}

Generator Responder::generator() const {
  return {*parts_.model->language_model, sampling_, {parts_.tokenizer.end_of_text_id()}, seed_};
}

void Responder::ask(int64_t batch, const std::function<std::optional<Question>()>& next,
                    const std::function<void(int64_t, const std::string&)>& answered,
                    const std::function<bool()>& stop) const {
  Generator writing = generator();
  std::map<int64_t, std::vector<int64_t>> answers;  // that are not finished
  for (bool more = true; more || writing.size() > 0;) {
    while (more && static_cast<int64_t>(writing.size()) < batch && !stop()) {
      const auto question = next();
      if (!(more = question.has_value())) break;
      writing.add(question->sequence, reader_->read({prompt_ids(*question), question->pictures}));
    }
    if (stop()) return;
    for (const auto& token : writing.step()) {
      answers[token.sequence].push_back(token.id);
      if (!token.last) continue;
      answered(token.sequence, stripped(parts_.tokenizer.decode(answers.at(token.sequence))));
      answers.erase(token.sequence);
    }
  }
}

std::vector<int64_t> Responder::continue_ids(const Prompt& prompt, const std::function<bool(int64_t)>& streamed) const {
  Generator writing = generator();
  writing.add(0, reader_->read(prompt));
  std::vector<int64_t> ids;
  while (writing.size() > 0) {
    ids.push_back(writing.step().front().id);
    if (streamed && !streamed(ids.back())) break;
  }
  return ids;
}

void Responder::set_sampling(const SamplingConfig& sampling, uint64_t seed) {
  sampling_ = sampling;
  seed_ = seed;
}

}  // namespace vlmamba
