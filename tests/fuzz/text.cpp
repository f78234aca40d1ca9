// Any bytes as a text, through the quickstart's tokenizer, which has a symbol for every byte.

#include "tests/fuzz/target.h"
#include "vlmamba/data/tokenizer.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = Tokenizer::load(VLMAMBA_SOURCE_DIR "/configs/quickstart/tokenizer.json");
  for (const bool special : {true, false}) {
    const auto ids = tokenizer.encode(fuzz::text_of(data, size), special);
    for (const int64_t id : ids) fuzz::require(id >= 0 && id < tokenizer.vocab_size());
    const std::string text = tokenizer.decode(ids, /*skip_special=*/false);  // valid UTF-8 in normal form
    fuzz::require(tokenizer.decode(tokenizer.encode(text, special), /*skip_special=*/false) == text);
  }
  return 0;
}
