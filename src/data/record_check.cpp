#include "src/data/record_check.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/data/example.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/images/decode.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr std::string_view kSeparator = " ASSISTANT: ";

// The format that a suffix promises; none for a suffix that says nothing.
std::string_view format_of_suffix(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
  if (suffix == ".jpg" || suffix == ".jpeg" || suffix == ".jpe") return "JPEG";
  if (suffix == ".png") return "PNG";
  if (suffix == ".webp") return "WEBP";
  if (suffix == ".gif") return "GIF";
  return {};
}

// One record on its way through the checks.
class RecordCheck {
 public:
  RecordCheck(const DataChecker& checker, const Json& json, int64_t index) : checker_(checker), json_(json) {
    report_.index = index;
  }

  RecordReport run() {
    check_id();
    check_keys();
    check_picture();
    const bool well_formed = check_conversation();
    if (well_formed) check_plain();
    if (error_) return finish();
    report_.usable = true;
    report_.turns_used = static_cast<int64_t>(record_.turns.size());
    report_.has_picture = has_picture_;
    measure();
    return finish();
  }

 private:
  bool is_plain() const { return checker_.prompt.template_name == PromptTemplate::kPlain; }

  void add(std::string_view code) {
    codes_.insert(std::string(code));
    const auto& all = data_codes();
    const auto known = std::find_if(all.begin(), all.end(), [&](const DataCode& c) { return c.name == code; });
    error_ = error_ || known->severity == Severity::kError;
  }

  RecordReport finish() {
    report_.codes.assign(codes_.begin(), codes_.end());
    return std::move(report_);
  }

  void check_id() {
    const Json* id = json_.find("id");
    if (id == nullptr || id->is_null()) return add("id_missing");
    report_.id = *id;
    if (!id->is_string()) add("id_not_string");
    record_.id = id->is_string() ? id->as_string() : id->to_string();
  }

  void check_keys() {
    for (const auto& [key, value] : json_.members())
      if (key != "id" && key != "image" && key != "conversations" && key != "model") add("unknown_key");
  }

  void check_picture() {
    const Json* image = json_.find("image");
    if (image == nullptr) return;
    if (image->is_null() || (image->is_string() && image->as_string().empty())) return add("image_null");
    has_picture_ = true;
    if (image->is_array()) return add("images_multiple");
    if (!image->is_string()) return add("image_missing");
    if (leaves_root(image->as_string())) return add("image_path_outside_root");
    const std::string path = picture_path(checker_.image_root, image->as_string());
    std::error_code failed;
    if (!fs::exists(path, failed)) return add("image_missing");
    try {
      const std::string bytes = io::read_file(path, ExitCode::kData);
      const io::Image picture = io::decode_image(bytes, path);
      const std::string format(io::image_format(bytes));
      report_.picture = {format, picture.width, picture.height};
      const auto named = format_of_suffix(image->as_string());
      if (!named.empty() && named != format) add("image_suffix_mismatch");
    } catch (const Error&) {
      add("image_undecodable");
    }
  }

  // Reads the turns into the record. False where they are too broken to say more.
  bool check_conversation() {
    const Json* conversations = json_.find("conversations");
    if (conversations == nullptr || !conversations->is_array()) return add("conversations_missing"), false;
    if (conversations->items().empty()) return add("conversations_empty"), false;
    bool readable = true;
    for (const Json& turn : conversations->items()) {
      const Json *from = turn.find("from"), *value = turn.find("value");
      const bool known = from && from->is_string() && (from->as_string() == "human" || from->as_string() == "gpt");
      if (!known) add("role_unknown");
      if (value == nullptr || !value->is_string()) add("value_not_string");
      readable = readable && known && value && value->is_string();
      if (readable) record_.turns.push_back({from->as_string() == "human", value->as_string()});
    }
    if (!readable) return false;
    check_texts();
    return drop_ends();
  }

  void check_texts() {
    size_t human = 0;
    for (const Turn& turn : record_.turns) {
      if (checker_.tokenizer.encode(turn.text, true) != checker_.tokenizer.encode(turn.text, false))
        add("special_token_in_text");
      const size_t tags = count_placeholders(turn.text);
      if (!turn.human) {
        if (tags > 0) add("image_tag_in_answer");
        if (stripped(turn.text).empty()) add("answer_empty");
        if (turn.text.find(kSeparator) != std::string::npos) add("answer_contains_separator");
        continue;
      }
      if (tags > 0) {
        if (!has_picture_) add("image_tag_without_image");
        if (tags > 1) add("image_tag_repeated");
        if (!turn.text.starts_with(kPicturePlaceholder)) add("image_tag_moved");
        if (human > 0) add("image_tag_late");
        tagged_ = true;
      }
      ++human;
    }
    if (has_picture_ && !tagged_) add("image_without_tag");
  }

  // A leading answer and a last question without one are left out; what remains must go human, gpt in turn.
  bool drop_ends() {
    auto& turns = record_.turns;
    if (!turns.front().human) {
      add("first_turn_dropped");
      turns.erase(turns.begin());
    }
    for (size_t i = 0; i < turns.size(); ++i)
      if (turns[i].human != (i % 2 == 0)) return add("turns_not_alternating"), false;
    if (turns.size() % 2 == 1) {
      add("last_turn_dropped");
      turns.pop_back();
    }
    if (turns.empty()) add("no_answer");
    return true;
  }

  void check_plain() {
    if (!is_plain()) return;
    if (record_.turns.size() != 2) add("pretrain_turns");
    // The tag must be in what is left, unless nothing is, which was said already.
    const bool left = std::any_of(record_.turns.begin(), record_.turns.end(),
                                  [](const Turn& turn) { return turn.human && count_placeholders(turn.text) > 0; });
    if (!has_picture_ || !(record_.turns.empty() ? tagged_ : left)) add("pretrain_image");
  }

  void measure() {
    if (has_picture_) record_.images = {"the picture"};
    std::string remark;  // says what the codes say
    record_ = mended(std::move(record_), remark);
    const Sample sample = build_training_sample(record_, checker_.tokenizer, checker_.prompt);
    report_.tokens = static_cast<int64_t>(sample.input_ids.size());
    report_.labelled =
        std::count_if(sample.labels.begin(), sample.labels.end(), [](int64_t label) { return label != kIgnoreIndex; });
    const auto pictures = std::count(sample.input_ids.begin(), sample.input_ids.end(), kImageToken);
    report_.positions = report_.tokens + pictures * (checker_.tokens_per_image - 1);
    if (report_.positions > checker_.max_length) add("too_long");
  }

  const DataChecker& checker_;
  const Json& json_;
  Record record_;
  RecordReport report_;
  std::set<std::string> codes_;
  bool error_ = false, has_picture_ = false, tagged_ = false;
};

}  // namespace

RecordReport check_record(const DataChecker& checker, const Json& json, int64_t index) {
  return RecordCheck(checker, json, index).run();
}

}  // namespace vlmamba
