#include "vlmamba/infer/text_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vlmamba {
namespace {

Tokenizer quickstart() {
  return Tokenizer::load(std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json");
}

// Its vocabulary has hardly more than bytes, so that these characters take several ids each.
TEST(TextStream, GivesWholeCharactersOnly) {
  const auto tokenizer = quickstart();
  const std::string text = "h\u00e9llo \u4e16\u754c, \U0001F642\U0001F680!\nna\u00efve";
  const auto ids = tokenizer.encode(text);
  TextStream stream(tokenizer);
  std::string all;
  size_t held = 0;
  for (const int64_t id : ids) {
    const std::string part = stream.add(id);
    EXPECT_EQ(part.find("\uFFFD"), std::string::npos);
    // A part begins and ends between characters: re-encoding what was given so far loses nothing.
    all += part;
    EXPECT_EQ(text.substr(0, all.size()), all);
    EXPECT_TRUE(all.size() == text.size() || (static_cast<unsigned char>(text[all.size()]) & 0xC0) != 0x80);
    held += part.empty() ? 1 : 0;
  }
  EXPECT_EQ(all + stream.finish(), text);
  EXPECT_GT(held, 6u);
}

TEST(TextStream, BytesThatAreNoCharacterAreGivenAtTheEnd) {
  const auto tokenizer = quickstart();
  auto ids = tokenizer.encode("a\U0001F642");
  ids.pop_back();
  TextStream stream(tokenizer);
  std::string all;
  for (const int64_t id : ids) all += stream.add(id);
  EXPECT_EQ(all, "a");
  EXPECT_EQ(all + stream.finish(), tokenizer.decode(ids));
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, LeavesOutSpecialTokensAndLeadingSpace) {
  const auto tokenizer = quickstart();
  TextStream stream(tokenizer);
  std::string all;
  for (const int64_t id : tokenizer.encode(" \n two words")) all += stream.add(id);
  all += stream.add(tokenizer.end_of_text_id());
  EXPECT_EQ(all + stream.finish(), "two words");
}

}  // namespace
}  // namespace vlmamba
