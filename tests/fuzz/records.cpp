// Records in LLaVA's layout: read as a whole, and found one by one as the index of a large file finds them.

#include "vlmamba/data/records.h"

#include <string>
#include <vector>

#include "tests/fuzz/target.h"
#include "vlmamba/io/json_stream.h"

using namespace vlmamba;

// A text that is an array as a whole falls into the same elements one by one.
void compare_with_stream(const io::Json& whole, std::string_view text) {
  if (!whole.is_array()) return;
  size_t count = 0;
  io::for_each_element_text(text, "input", ExitCode::kData, [&](std::string_view value, int64_t line) {
    const auto element = io::parse_json(value, "input", ExitCode::kData, false, line);
    fuzz::require(count < whole.items().size() && element.to_string() == whole.items()[count].to_string());
    fuzz::require(element.line == whole.items()[count].line);
    ++count;
  });
  fuzz::require(count == whole.items().size());
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  fuzz::refuse_or_accept(
      [&] { io::for_each_element_text(text, "input", ExitCode::kData, [](std::string_view, int64_t) {}); });
  fuzz::refuse_or_accept([&] {
    const auto json = io::parse_json(text, "input", ExitCode::kData);
    try {
      compare_with_stream(json, text);
    } catch (const Error&) {
      fuzz::require(false);
    }
    for (const auto& item : json.items())
      fuzz::refuse_or_accept([&] {
        const Record record = parse_record(item, "input");
        fuzz::require(record.turns.empty() || record.turns.front().human);
      });
  });
  return 0;
}
