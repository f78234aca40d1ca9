#include "vlmamba/data/data_check.h"

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

constexpr std::string_view kPlaceholder = "<image>", kSeparator = " ASSISTANT: ";

size_t count_placeholders(std::string_view text) {
  size_t count = 0;
  for (size_t at = text.find(kPlaceholder); at != std::string_view::npos; at = text.find(kPlaceholder, at + 1)) ++count;
  return count;
}

bool leaves_root(const fs::path& path) {
  int depth = 0, least = 0;
  for (const auto& part : path) {
    depth += part == ".." ? -1 : part == "." || part.empty() ? 0 : 1;
    least = std::min(least, depth);
  }
  return path.is_absolute() || least < 0;
}

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

  RecordReport run(std::set<std::string>& seen_ids) {
    check_id(seen_ids);
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

  void check_id(std::set<std::string>& seen) {
    const Json* id = json_.find("id");
    if (id == nullptr || id->is_null()) return add("id_missing");
    report_.id = *id;
    if (!id->is_string()) add("id_not_string");
    record_.id = id->is_string() ? id->as_string() : id->to_string();
    if (!seen.insert(record_.id).second) add("id_duplicate");
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
    bool tagged = false;
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
        if (!turn.text.starts_with(kPlaceholder)) add("image_tag_moved");
        if (human > 0) add("image_tag_late");
        tagged = true;
      }
      ++human;
    }
    if (has_picture_ && !tagged) add("image_without_tag");
    tagged_ = tagged;
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
    if (!has_picture_ || !tagged_) add("pretrain_image");
  }

  // Only the first placeholder is a picture's; without one the record's picture is not shown.
  void measure() {
    bool placed = false;
    for (Turn& turn : record_.turns) {
      if (!turn.human || count_placeholders(turn.text) == 0) continue;
      if (placed) turn.text = without_placeholders(turn.text);
      placed = true;
    }
    if (placed) record_.images = {"the picture"};
    const Sample sample = build_training_sample(record_, checker_.tokenizer, checker_.prompt);
    report_.tokens = static_cast<int64_t>(sample.input_ids.size());
    report_.labelled =
        std::count_if(sample.labels.begin(), sample.labels.end(), [](int64_t label) { return label != kIgnoreIndex; });
    const auto pictures = std::count(sample.input_ids.begin(), sample.input_ids.end(), kImageToken);
    report_.positions = report_.tokens + pictures * (checker_.tokens_per_image - 1);
    if (report_.positions > checker_.max_length) add("too_long");
  }

  static std::string without_placeholders(std::string text) {
    for (size_t at = text.find(kPlaceholder); at != std::string::npos; at = text.find(kPlaceholder))
      text.erase(at, kPlaceholder.size());
    return stripped(text);
  }

  const DataChecker& checker_;
  const Json& json_;
  Record record_;
  RecordReport report_;
  std::set<std::string> codes_;
  bool error_ = false, has_picture_ = false, tagged_ = false;
};

Json record_array(const std::string& path) {
  Json json = io::read_json(path, ExitCode::kData);
  if (!json.is_array())
    throw Error(ExitCode::kData, path, "expected an array of records, got " + std::string(io::kind_name(json.kind())));
  return json;
}

Json to_json(const RecordReport& record) {
  Json json = Json::object();
  json.append("index", record.index);
  json.append("id", record.id);
  json.append("usable", record.usable);
  json.append("modality", record.usable ? Json(record.has_picture ? "image" : "text") : Json());
  json.append("turns_used", record.turns_used);
  if (record.picture) {
    Json& picture = json.append("image", Json::object());
    picture.append("format", record.picture->format);
    picture.append("width", record.picture->width);
    picture.append("height", record.picture->height);
  }
  if (record.usable) {
    json.append("tokens", record.tokens);
    json.append("labelled", record.labelled);
    json.append("positions", record.positions);
  }
  Json& codes = json.append("codes", Json::array());
  for (const auto& code : record.codes) codes.push(code);
  return json;
}

}  // namespace

const std::vector<DataCode>& data_codes() {
  constexpr auto error = Severity::kError, warning = Severity::kWarning;
  static const std::vector<DataCode> codes{
      {"conversations_missing", error, "no `conversations` array"},
      {"conversations_empty", error, "`conversations` has no turn"},
      {"role_unknown", error, "a turn's `from` is neither human nor gpt"},
      {"turns_not_alternating", error, "after a leading gpt turn is dropped, turns do not go human, gpt, human, gpt"},
      {"value_not_string", error, "a turn's `value` is missing or no string"},
      {"no_answer", error, "no human turn with a gpt turn after it"},
      {"image_missing", error, "the picture's file does not exist"},
      {"image_undecodable", error, "the picture's file does not decode completely"},
      {"image_path_outside_root", error, "the picture's path is absolute or leaves the image folder"},
      {"images_multiple", error, "`image` is a list"},
      {"image_tag_without_image", error, "<image> in a human turn of a record without `image`"},
      {"special_token_in_text", error, "a turn contains the text of a special token"},
      {"pretrain_turns", error, "template plain needs exactly one human and one gpt turn"},
      {"pretrain_image", error, "template plain needs a picture and its tag in the human turn"},
      {"first_turn_dropped", warning, "the conversation starts with a gpt turn, which is dropped"},
      {"last_turn_dropped", warning, "the conversation ends with a human turn, which is dropped"},
      {"image_without_tag", warning, "`image` is given but no human turn contains <image>"},
      {"image_tag_moved", warning, "the tag is not at the start of its turn; it is moved there"},
      {"image_tag_repeated", warning, "a turn contains the tag more than once; one is kept"},
      {"image_tag_late", warning, "the tag is in a later human turn"},
      {"image_tag_in_answer", warning, "a gpt turn contains the text <image>"},
      {"image_null", warning, "`image` is null or empty; the record counts as text only"},
      {"image_suffix_mismatch", warning, "the file's content has another format than its suffix says"},
      {"answer_empty", warning, "a gpt turn is empty or only white space"},
      {"answer_contains_separator", warning, "a gpt turn contains ` ASSISTANT: `, which breaks string-split masks"},
      {"id_not_string", warning, "`id` is no string; its text is used"},
      {"id_missing", warning, "no `id`"},
      {"id_duplicate", warning, "the `id` occurred before in the same file"},
      {"unknown_key", warning, "a key other than id, image, conversations, model"},
      {"too_long", warning, "more positions than the maximum; cut at the end"}};
  return codes;
}

Json DataReport::to_json() const {
  Json json = Json::object();
  json.append("records", static_cast<int64_t>(records.size()));
  json.append("usable", usable);
  Json& counts = json.append("code_counts", Json::object());
  for (const auto& [code, count] : code_counts) counts.append(code, count);
  Json& report = json.append("report", Json::array());
  for (const auto& record : records) report.push(vlmamba::to_json(record));
  return json;
}

DataReport DataChecker::check(const std::string& path) const {
  const Json json = record_array(path);
  DataReport report;
  std::set<std::string> seen_ids;
  for (const Json& record : json.items()) {
    report.records.push_back(RecordCheck(*this, record, static_cast<int64_t>(report.records.size())).run(seen_ids));
    report.usable += report.records.back().usable ? 1 : 0;
    for (const auto& code : report.records.back().codes) ++report.code_counts[code];
  }
  return report;
}

std::vector<CompositionRow> mix665k_composition(const std::string& path) {
  std::vector<CompositionRow> rows{{"coco/train2017/", 364'100, 0},
                                   {"vg/VG_100K", 86'417, 0},
                                   {"gqa/images/", 72'140, 0},
                                   {"ocr_vqa/images/", 80'000, 0},
                                   {"textvqa/train_images/", 21'953, 0},
                                   {"text only", 40'688, 0},
                                   {"anything else", 0, 0}};
  const Json json = record_array(path);
  for (const Json& record : json.items()) {
    const Json* image = record.find("image");
    const auto row = std::find_if(rows.begin(), rows.end() - 2, [&](const CompositionRow& candidate) {
      return image && image->is_string() && image->as_string().starts_with(candidate.part);
    });
    ++(image == nullptr ? rows[rows.size() - 2] : row == rows.end() - 2 ? rows.back() : *row).found;
  }
  return rows;
}

}  // namespace vlmamba
