#include "vlmamba/data/prompt.h"

#include <algorithm>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {

size_t count_placeholders(std::string_view text) {
  size_t count = 0;
  for (size_t at = text.find(kPicturePlaceholder); at != std::string::npos; at = text.find(kPicturePlaceholder, at + 1))
    ++count;
  return count;
}

std::string without_placeholders(std::string text) {
  const size_t size = kPicturePlaceholder.size();
  for (size_t at = text.find(kPicturePlaceholder); at != std::string::npos;
       at = text.find(kPicturePlaceholder, at - std::min(at, size)))
    text.erase(at, size);
  return text;
}

namespace {

// LLaVA's normalisation of a record with one picture: it stands first in its turn, on a line of its own.
std::string normalised(const std::string& text, const Record& record) {
  if (record.images.size() != 1 || text.find(kPicturePlaceholder) == std::string::npos) return text;
  return stripped(std::string(kPicturePlaceholder) + "\n" + stripped(without_placeholders(text)));
}

class Builder {
 public:
  Builder(const Record& record, const Tokenizer& tokenizer, const PromptConfig& config)
      : record_(record), tokenizer_(tokenizer), config_(config) {
    if (config.image_position == ImagePosition::kBeforeText)
      for (size_t i = 0; i < record.images.size(); ++i) add_picture();
  }

  // Text whose placeholders, in a record with pictures, are pictures; the parts around them are tokenised apart.
  void add(const std::string& text, bool learnt) {
    if (record_.images.empty()) return add_text(text, learnt);
    const bool in_place = config_.image_position == ImagePosition::kInPlace;
    size_t begin = 0;
    for (size_t at = text.find(kPicturePlaceholder); at != std::string::npos;
         at = text.find(kPicturePlaceholder, begin)) {
      add_text(text.substr(begin, at - begin), learnt);
      if (in_place) add_picture();
      begin = at + kPicturePlaceholder.size();
    }
    add_text(text.substr(begin), learnt);
  }

  void end_answer() { push(tokenizer_.end_of_text_id(), true); }
  void add_picture() { push(kImageToken, false); }

  Sample take() { return std::move(sample_); }

 private:
  void add_text(const std::string& text, bool learnt) {
    for (const int64_t id : tokenizer_.encode(text, !config_.special_as_text)) push(id, learnt);
  }
  void push(int64_t id, bool learnt) {
    sample_.input_ids.push_back(id);
    sample_.labels.push_back(learnt ? id : kIgnoreIndex);
  }

  const Record& record_;
  const Tokenizer& tokenizer_;
  const PromptConfig& config_;
  Sample sample_;
};

void check_placeholders(const Record& record) {
  if (record.images.empty()) return;
  size_t count = 0;
  for (const Turn& turn : record.turns) count += turn.human ? count_placeholders(normalised(turn.text, record)) : 0;
  if (count != record.images.size())
    throw Error(ExitCode::kData, "record " + record.id,
                "expected " + std::to_string(record.images.size()) + " <image> in the human turns, got " +
                    std::to_string(count));
}

// The question of a round with what stands before it, up to `ASSISTANT:`.
std::string question(const Record& record, size_t turn, const PromptConfig& config) {
  const std::string before = turn == 0 && !config.system.empty() ? config.system + " " : "";
  return before + "USER: " + normalised(record.turns[turn].text, record) + " ASSISTANT:";
}

Sample plain(const Record& record, const Tokenizer& tokenizer, const PromptConfig& config) {
  if (record.turns.size() != 2 || record.images.empty() || count_placeholders(record.turns[0].text) == 0)
    throw Error(ExitCode::kData, "record " + record.id,
                "expected a picture, a question with <image> and one answer for the template plain, got " +
                    std::to_string(record.turns.size()) + " turns");
  Builder builder(record, tokenizer, config);
  if (config.image_position == ImagePosition::kInPlace)
    for (size_t i = 0; i < record.images.size(); ++i) builder.add_picture();
  builder.add(record.turns[1].text + "\n", /*learnt=*/true);
  return builder.take();
}

}  // namespace

Record mended(Record record, std::string& remark) {
  const auto say = [&](const char* what) { remark += (remark.empty() ? "record " + record.id + ": " : "; ") + what; };
  auto& turns = record.turns;
  if (turns.size() == 1)
    throw Error(ExitCode::kData, "record " + record.id, "expected an answer to every question, got none");
  if (turns.size() % 2 == 1) {
    turns.pop_back();
    say("the last question has no answer and is left out");
  }
  size_t named = 0;
  for (Turn& turn : turns) {
    if (!turn.human || count_placeholders(turn.text) == 0) continue;
    if (record.images.empty())
      throw Error(ExitCode::kData, "record " + record.id, "expected a picture for its <image>, got none");
    if (++named < 2 || record.images.size() != 1) continue;
    turn.text = stripped(without_placeholders(turn.text));
    say("a second <image> is left out");
  }
  if (named == 0 && record.images.size() == 1) {
    record.images.clear();
    say("no question names the picture by <image>, so that it is not shown");
  }
  return record;
}

Sample build_training_sample(const Record& record, const Tokenizer& tokenizer, const PromptConfig& config) {
  if (config.template_name == PromptTemplate::kPlain) return plain(record, tokenizer, config);
  check_placeholders(record);
  if (record.turns.size() % 2 != 0)
    throw Error(ExitCode::kData, "record " + record.id, "expected an answer to every question, got none to the last");
  Builder builder(record, tokenizer, config);
  for (size_t turn = 0; turn < record.turns.size(); turn += 2) {
    builder.add(question(record, turn, config), config.learn_prompts);
    builder.add(" " + record.turns[turn + 1].text, /*learnt=*/true);
    builder.end_answer();
  }
  return builder.take();
}

std::vector<int64_t> build_generation_prompt(const Record& record, const Tokenizer& tokenizer,
                                             const PromptConfig& config) {
  Builder builder(record, tokenizer, config);
  const size_t last = (record.turns.size() - 1) / 2 * 2;
  if (config.template_name == PromptTemplate::kPlain) {
    if (config.image_position == ImagePosition::kInPlace)
      for (size_t i = 0; i < record.images.size(); ++i) builder.add_picture();
    return builder.take().input_ids;
  }
  for (size_t turn = 0; turn < last; turn += 2) {
    builder.add(question(record, turn, config), false);
    builder.add(" " + record.turns[turn + 1].text, false);
    builder.end_answer();
  }
  builder.add(question(record, last, config), false);
  return builder.take().input_ids;
}

}  // namespace vlmamba
