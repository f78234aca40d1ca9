// Records in LLaVA's layout.

#include "vlmamba/data/records.h"

#include "tests/fuzz/target.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto json = io::parse_json(fuzz::text_of(data, size), "input", ExitCode::kData);
    for (const auto& item : json.items())
      fuzz::refuse_or_accept([&] {
        const Record record = parse_record(item, "input");
        fuzz::require(record.turns.empty() || record.turns.front().human);
      });
  });
  return 0;
}
