#include "vlmamba/data/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <sstream>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

const std::string kGoldens = std::string(VLMAMBA_SHARED_DATA) + "/tokenizers/";

std::vector<io::Json> lines(const std::string& path) {
  std::vector<io::Json> all;
  std::istringstream text(io::read_file(path, ExitCode::kData));
  for (std::string line; std::getline(text, line);) all.push_back(io::parse_json(line, path, ExitCode::kData));
  return all;
}

std::vector<int64_t> ids_of(const io::Json& line) {
  std::vector<int64_t> ids;
  for (const auto& id : line.find("ids")->items()) ids.push_back(id.as_integer());
  return ids;
}

class TokenizerGoldens : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerGoldens, EncodesAndDecodesAsPython) {
  const std::string folder = kGoldens + GetParam();
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no tokenizer goldens in " << folder;
  const auto tokenizer = Tokenizer::load(folder);
  for (const auto& line : lines(folder + "/goldens.jsonl")) {
    const auto& text = line.find("text")->as_string();
    EXPECT_EQ(tokenizer.encode(text), ids_of(line)) << text;
  }
  for (const char* file : {"/goldens.jsonl", "/decode_goldens.jsonl"})
    for (const auto& line : lines(folder + file)) {
      EXPECT_EQ(tokenizer.decode(ids_of(line), false), line.find("decoded")->as_string());
      const auto* without = line.find("decoded_skip_special");
      EXPECT_EQ(tokenizer.decode(ids_of(line)), (without ? without : line.find("decoded"))->as_string());
    }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerGoldens, testing::Values("tiny", "gpt_neox_20b"));

const std::string kQuickstart = std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json";

TEST(Tokenizer, DecodingUndoesEncoding) {
  const auto tokenizer = Tokenizer::load(kQuickstart);
  for (const std::string text :
       {"what is left of the 3?", " x  y\n\n\tz ", "d\xc3\xa9j\xc3\xa0 \xe6\x9d\xb1\xe4\xba\xac", "a<|endoftext|>b"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text), false), text);
  EXPECT_EQ(tokenizer.encode("<|endoftext|>"), std::vector<int64_t>{0});
  EXPECT_GT(tokenizer.encode("<|endoftext|>", /*special=*/false).size(), 1u);
}

TEST(Tokenizer, LongWordsTakeLinearTime) {
  const auto tokenizer = Tokenizer::load(kQuickstart);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(std::string(1 << 20, 'e'))).size(), size_t{1} << 20);
}

TEST(Tokenizer, WrongFilesAreNamed) {
  const std::string path = testing::TempDir() + "/tokenizer_test.json";
  const std::string rest = R"("added_tokens": [], "pre_tokenizer": {"type": "ByteLevel"}, "model": )";
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"{", "expected JSON"},
           {"{}", "expected the key \"pre_tokenizer\""},
           {R"({"normalizer": {"type": "NFKC"}})", "normalizer: expected NFC or null, got NFKC"},
           {"{" + rest + R"({"type": "Unigram"}})", "model.type: expected BPE, got Unigram"},
           {"{" + rest + R"({"type": "BPE", "vocab": {"a": -1}, "merges": []}})", "\"a\": expected an id"},
           {"{" + rest + R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})",
            "id 0: expected one symbol, got two"},
           {"{" + rest + R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})",
            "model.merges: expected two symbols"},
           {"{" + rest + R"({"type": "BPE", "vocab": {"a": 0}, "merges": []}})", "expected <|endoftext|>"}}) {
    io::write_file_atomically(path, text);
    try {
      Tokenizer::load(path);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kWeights);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace vlmamba
