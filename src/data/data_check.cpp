#include "vlmamba/data/data_check.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <set>
#include <thread>

#include "src/data/record_check.h"
#include "src/data/record_index.h"
#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using io::Json;

constexpr size_t kAtOnce = 4096;  // records in memory

void for_each_record(const std::string& path, const io::EachValue& each) {
  const io::MappedFile file(path, ExitCode::kData);
  for_each_record_text(file, [&](std::string_view text, int64_t line) {
    each(io::parse_json(text, path, ExitCode::kData, false, line), line);
  });
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

std::string id_text(const Json& id) { return id.is_string() ? id.as_string() : id.to_string(); }

void add_code(std::vector<std::string>& sorted, const std::string& code) {
  sorted.insert(std::lower_bound(sorted.begin(), sorted.end(), code), code);
}

// The reports of these records, of which the first has this index.
std::vector<RecordReport> check_all(const DataChecker& checker, const std::vector<Json>& records, int64_t first,
                                    int64_t threads) {
  std::vector<RecordReport> reports(records.size());
  std::vector<std::exception_ptr> failures(static_cast<size_t>(threads));
  std::atomic<size_t> next = 0;
  const auto work = [&](std::exception_ptr& failure) {
    try {
      for (size_t i = next++; i < records.size(); i = next++)
        reports[i] = check_record(checker, records[i], first + static_cast<int64_t>(i));
    } catch (...) {
      failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  for (size_t i = 1; i < failures.size(); ++i) others.emplace_back(work, std::ref(failures[i]));
  work(failures[0]);
  for (auto& thread : others) thread.join();
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return reports;
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
  DataReport report;
  std::set<std::string> seen_ids;
  std::vector<Json> waiting;
  const auto check_waiting = [&] {
    for (auto& record : check_all(*this, waiting, static_cast<int64_t>(report.records.size()), threads)) {
      if (!record.id.is_null() && !seen_ids.insert(id_text(record.id)).second) add_code(record.codes, "id_duplicate");
      report.usable += record.usable ? 1 : 0;
      for (const auto& code : record.codes) ++report.code_counts[code];
      report.records.push_back(std::move(record));
    }
    waiting.clear();
  };
  for_each_record(path, [&](const Json& record, int64_t) {
    waiting.push_back(record);
    if (waiting.size() == kAtOnce) check_waiting();
  });
  check_waiting();
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
  for_each_record(path, [&](const Json& record, int64_t) {
    const Json* image = record.find("image");
    const auto row = std::find_if(rows.begin(), rows.end() - 2, [&](const CompositionRow& candidate) {
      return image && image->is_string() && image->as_string().starts_with(candidate.part);
    });
    ++(image == nullptr ? rows[rows.size() - 2] : row == rows.end() - 2 ? rows.back() : *row).found;
  });
  return rows;
}

}  // namespace vlmamba
