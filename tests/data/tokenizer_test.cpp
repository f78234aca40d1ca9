#include "vlmamba/data/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <set>
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

// No time is asserted; with quadratic algorithms this test would not end.
TEST(Tokenizer, AMillionCharactersOfAnyKindComeBack) {
  const auto tokenizer = Tokenizer::load(kQuickstart);
  std::string scattered, marks;
  for (unsigned i = 0; i < (1u << 20); ++i) scattered += static_cast<char>('a' + (i * 7919 + i * i) % 26);
  for (int i = 0; i < (1 << 18); ++i) marks += i % 2 ? "\xcc\x81" : "\xcc\x96";
  for (const auto& text : {std::string(1 << 20, 'e'), std::string(1 << 20, ' '), std::string(1 << 20, '\n'),
                           std::string(1 << 20, '\''), scattered}) {
    const auto start = std::chrono::steady_clock::now();
    const auto ids = tokenizer.encode(text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::cout << "1 MiB like \"" << io::Json(text.substr(0, 3)).to_string() << "\": " << ids.size() << " ids in "
              << seconds.count() << " s\n";
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(marks)).size(), marks.size());  // in another order
}

// A tokenizer of the letters a to e, space and full stop as 0 to 6, and whatever a test adds.
std::string small(const std::string& added, const std::string& merges = "[]", const std::string& more_vocab = "",
                  const std::string& pre = R"("add_prefix_space": false)", const std::string& model = "") {
  return R"({"added_tokens": [)" + added + R"(], "normalizer": {"type": "NFC"}, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", )" +
         pre + R"(}, "model": {"type": "BPE", )" + model +
         R"("vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "Ġ": 5, ".": 6)" + more_vocab + R"(}, "merges": )" +
         merges + "}}";
}

std::string token(const std::string& text, int id, const std::set<std::string>& flags = {}) {
  std::string json = R"({"content": ")" + text + R"(", "id": )" + std::to_string(id);
  for (const std::string flag : {"special", "normalized", "single_word", "lstrip", "rstrip"})
    json += ", \"" + flag + "\": " + (flags.contains(flag) ? "true" : "false");
  return json + "}";
}

using Ids = std::vector<int64_t>;

struct Case {
  std::string name, json, text;
  Ids ids;
};

class SmallTokenizers : public testing::TestWithParam<Case> {};

TEST_P(SmallTokenizers, GiveThePythonIds) {
  EXPECT_EQ(Tokenizer::parse(GetParam().json, "small").encode(GetParam().text), GetParam().ids);
}

// The ids are those of tokenizers 0.23.3 for these very files.
INSTANTIATE_TEST_SUITE_P(
    All, SmallTokenizers,
    testing::Values(
        Case{"plain", small(token("bc", 7)), "abcd", {0, 7, 3}},
        Case{"longest", small(token("bc", 7) + "," + token("bcd", 8)), "abcd", {0, 8}},
        Case{"lstrip", small(token("b", 1, {"lstrip"})), "a  b a", {0, 1, 5, 0}},
        Case{"rstrip", small(token("b", 1, {"rstrip"})), "a b  a", {0, 5, 1, 0}},
        Case{"bothNextToEachOther", small(token("b", 1, {"lstrip", "rstrip"})), " b  b .", {1, 1, 6}},
        Case{"singleWord",
             small(token("b", 1, {"single_word"}), R"([["Ġ", "b"]])", R"(, "Ġb": 7)"),
             "b ab b.",
             {1, 5, 0, 1, 5, 1, 6}},
        Case{"normalizedLater",
             small(token("e\\u0301", 7, {"normalized"})),
             "a\xc3\xa9"
             "e\xcc\x81",
             {0, 7, 7}},
        Case{"rawSooner",
             small(token("e\\u0301", 7)),
             "a\xc3\xa9"
             "e\xcc\x81",
             {0, 7}},
        Case{"prefixSpace",
             small(token("b", 1), "[]", "", R"("add_prefix_space": true)"),
             "aba c",
             {5, 0, 1, 5, 0, 5, 2}},
        Case{"mergesAsStrings", small("", R"(["a b", "ab c"])", R"(, "ab": 7, "abc": 8)"), "abcab", {8, 7}},
        Case{"mergesAsPairs", small("", R"([["a", "b"], ["ab", "c"]])", R"(, "ab": 7, "abc": 8)"), "abcab", {8, 7}},
        Case{"rankBeforePlace", small("", R"(["b c", "a b"])", R"(, "ab": 7, "bc": 8)"), "abcab", {0, 8, 7}},
        Case{"patternOff",
             small("", R"(["a Ġ", "aĠ b"])", R"(, "aĠ": 7, "aĠb": 8)",
                   R"("add_prefix_space": false, "use_regex": false)"),
             "a b",
             {8}},
        Case{"unknownLeftOut", small(""), "axb", {0, 1}},
        Case{"unknownToken",
             small("", "[]", "", R"("add_prefix_space": false)", R"("unk_token": "e", )"),
             "axyb",
             {0, 4, 4, 1}},
        Case{"unknownFused",
             small("", "[]", "", R"("add_prefix_space": false)", R"("unk_token": "e", "fuse_unk": true, )"),
             "axyb",
             {0, 4, 1}},
        Case{"wholeWords",
             small("", "[]", R"(, "abc": 7)", R"("add_prefix_space": false)", R"("ignore_merges": true, )"),
             "abc.abcd",
             {7, 6, 0, 1, 2, 3}}),
    [](const auto& info) { return info.param.name; });

TEST(Tokenizer, SpecialTokensAreLeftOutOrPlainTextOnDemand) {
  const auto tokenizer = Tokenizer::parse(small(token("<a>", 7, {"special"}) + "," + token("bb", 8)), "small");
  EXPECT_EQ(tokenizer.encode("a<a>bb"), (Ids{0, 7, 8}));
  EXPECT_EQ(tokenizer.encode("a<a>bb", /*special=*/false), (Ids{0, 0, 8}));  // < and > have no symbol here
  EXPECT_EQ(tokenizer.decode({0, 7, 8, 99, -1}), "abb");
  EXPECT_EQ(tokenizer.decode({0, 7, 8}, /*skip_special=*/false), "a<a>bb");
  EXPECT_EQ(tokenizer.vocab_size(), 9);
  EXPECT_THROW(tokenizer.end_of_text_id(), Error);
}

// As Python's tokenizers, which look a special token up by its text: normalized, this one is another.
TEST(Tokenizer, ASpecialTokenThatNormalizationChangedIsNotLeftOut) {
  const std::string accent = "e\xcc\x81", other = token(accent, 7, {"special", "normalized"});
  const auto tokenizer = Tokenizer::parse(small(other), "small");
  EXPECT_EQ(tokenizer.encode("\xc3\xa9"), Ids{7});
  EXPECT_EQ(tokenizer.decode({0, 7, 1}),
            "a\xef\xbf\xbd"
            "b");  // U+00E9 is the symbol of a byte that is no UTF-8
}

TEST(Tokenizer, BytesThatAreNoUtf8AreReplaced) {
  const auto tokenizer = Tokenizer::load(kQuickstart);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xff\xe2\x82"
                                              "b\xed\xa0\x80")),
            "a\xef\xbf\xbd\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Tokenizer, WrongFilesAreNamed) {
  const std::string pre = R"("added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, )"
                          R"("decoder": {"type": "ByteLevel"}, )";
  const std::string bpe = R"("model": {"type": "BPE", "vocab": {"a": 0}, "merges": []})";
  for (
      const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
          {"{", "expected JSON"},
          {"[]", "expected an object, got an array"},
          {"{}", "an object without \"model\""},
          {R"({"model": {"type": "BPE"}})", "expected the key \"vocab\""},
          {"{" + bpe + "}", "expected the key \"pre_tokenizer\""},
          {"{" + bpe + R"(, "normalizer": {"type": "Lowercase"}})",
           "normalizer: expected NFC, NFD, NFKC, NFKD or null, got Lowercase"},
          {"{" + bpe + R"(, "pre_tokenizer": {"type": "Whitespace"}})",
           "pre_tokenizer: expected ByteLevel, got Whitespace"},
          {"{" + bpe +
               R"(, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "WordPiece"}})",
           "decoder: expected ByteLevel, got WordPiece"},
          {"{" + pre + R"("model": {"type": "WordPiece"}})", "model.type: expected BPE"},
          {"{" + pre + R"("model": {"type": "Unigram", "vocab": [["a", 0.5]]}})", "got \"Unigram\""},
          {"{" + pre + R"("model": {"type": "BPE", "byte_fallback": true, "vocab": {}, "merges": []}})",
           "model.byte_fallback: expected none"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})", "\"a\": expected an id"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 0.5}, "merges": []}})", "\"a\": expected an id"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 4294967296}, "merges": []}})",
           "\"a\": expected an id"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}})",
           "id 0: expected one symbol, got two"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})",
           "model.merges: expected two symbols"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}})",
           "model.merges: expected two symbols"},
          {"{" + pre + R"("model": {"type": "BPE", "vocab": {"a": 0}, "merges": [7]}})",
           "model.merges: expected two symbols"},
          {small(token("x", 9)), "\"x\": expected the id 7 that follows from the vocabulary, got 9"},
          {small(token("x", 7) + "," + token("x", 7)), "id 7: expected one token, got two"},
          {small(token("", 7)), "expected a text"},
          {small(R"({"content": "x", "id": 7})"), "expected the key \"special\""}}) {
    try {
      Tokenizer::parse(text, "tokenizer.json");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kWeights);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace vlmamba
