// A tokenizer.json, and what it makes of a few texts.

#include "vlmamba/data/tokenizer.h"

#include "tests/fuzz/target.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto tokenizer = Tokenizer::parse(std::string(fuzz::text_of(data, size)), "input");
    for (const std::string_view text : {"", " a  b\n\nab", "<|endoftext|> don't", "\xc3\xa9\xe6\x9d\xb1 e\xcc\x81\xff"})
      for (const bool special : {true, false}) {
        const auto ids = tokenizer.encode(text, special);
        for (const int64_t id : ids) fuzz::require(id >= 0 && id < tokenizer.vocab_size());
        tokenizer.decode(ids, special);
      }
  });
  return 0;
}
