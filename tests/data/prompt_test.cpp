#include "vlmamba/data/prompt.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba {
namespace {

const std::string kShared = VLMAMBA_SHARED_DATA;

std::vector<int64_t> numbers(const io::Json& array) {
  std::vector<int64_t> ids;
  for (const auto& id : array.items()) ids.push_back(id.as_integer());
  return ids;
}

TEST(Prompt, GoldensOfConversationsAgree) {
  const std::string path = kShared + "/prompts/goldens.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no prompt goldens in " << path;
  const auto tokenizer = Tokenizer::load(kShared + "/tokenizers/gpt_neox_20b");
  std::istringstream lines(io::read_file(path, ExitCode::kData));
  int cases = 0;
  for (std::string line; std::getline(lines, line); ++cases) {
    const auto golden = io::parse_json(line, path, ExitCode::kData);
    PromptConfig config;
    config.template_name =
        golden.find("template")->as_string() == "plain" ? PromptTemplate::kPlain : PromptTemplate::kV1;
    const Record record = parse_record(*golden.find("record"), "golden");
    const auto sample = build_training_sample(record, tokenizer, config);
    SCOPED_TRACE(golden.find("case")->to_string());
    EXPECT_EQ(sample.input_ids, numbers(*golden.find("input_ids")));
    EXPECT_EQ(sample.labels, numbers(*golden.find("labels")));
    if (const auto* prompt = golden.find("generation_prompt_ids"); prompt && prompt->is_array()) {
      EXPECT_EQ(build_generation_prompt(record, tokenizer, config), numbers(*prompt));
    }
  }
  EXPECT_GE(cases, 26);
}

const std::string kTokenizer = std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json";

Record record_of(const std::string& text) { return parse_record(io::parse_json(text, "r", ExitCode::kData), "r"); }

TEST(Prompt, PicturesGoBeforeTheTextIfAsked) {
  const auto tokenizer = Tokenizer::load(kTokenizer);
  PromptConfig config;
  config.image_position = ImagePosition::kBeforeText;
  const auto record =
      record_of(R"({"id": 1, "image": ["a", "b"], "conversations": [{"from": "human", "value": "x <image> y <image>"},
                                    {"from": "gpt", "value": "z"}]})");
  const auto sample = build_training_sample(record, tokenizer, config);
  EXPECT_EQ(sample.input_ids[0], -200);
  EXPECT_EQ(sample.input_ids[1], -200);
  EXPECT_EQ(std::count(sample.input_ids.begin(), sample.input_ids.end(), -200), 2);
}

TEST(Prompt, AUserCannotEndAnAnswerWhereSpecialTokensAreText) {
  const auto tokenizer = Tokenizer::load(kTokenizer);
  PromptConfig config;
  const auto record = record_of(
      R"({"id": 1, "conversations": [{"from": "human", "value": "<|endoftext|>"}, {"from": "gpt", "value": "z"}]})");
  const auto ends = [&] {
    const auto ids = build_training_sample(record, tokenizer, config).input_ids;
    return std::count(ids.begin(), ids.end(), tokenizer.end_of_text_id());
  };
  EXPECT_EQ(ends(), 2);
  config.special_as_text = true;
  EXPECT_EQ(ends(), 1);
}

TEST(Records, MalformedOnesAreNamed) {
  const std::string human = R"({"from": "human", "value": "q"})", gpt = R"({"from": "gpt", "value": "a"})";
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"3", "[r] expected an object, got an integer"},
           {"{}", "conversations"},
           {R"({"id": [], "conversations": []})", "id: expected a string or an integer, got []"},
           {R"({"id": "7", "conversations": []})",
            "[r, id 7] conversations: expected a question and an answer, got none"},
           {R"({"id": "7", "conversations": {}})", "conversations: expected an array, got an object"},
           {R"({"id": 7, "conversations": [3]})", "r, id 7:1:"},
           {R"({"id": 7, "conversations": [{"from": "human"}]})", "expected the key \"value\", got none"},
           {R"({"id": 7, "conversations": [{"from": "human", "value": 3}]})",
            "value: expected a string, got an integer"},
           {R"({"id": 7, "conversations": [{"from": "bot", "value": "x"}]})",
            "from: expected human or gpt, got \"bot\""},
           {"{\"id\": 7, \"conversations\": [" + gpt + "]}", "expected a question and an answer, got none"},
           {"{\"id\": 7, \"conversations\": [" + human + "," + human + "]}",
            "expected human and gpt in turn, got human at turn 1"},
           {"{\"id\": 7, \"image\": 3, \"conversations\": [" + human + "," + gpt + "]}", "image: expected a path"},
           {"{\"id\": 7, \"image\": [\"\"], \"conversations\": [" + human + "," + gpt + "]}",
            "image: expected a path"}}) {
    try {
      record_of(text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace vlmamba
