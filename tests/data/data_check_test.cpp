#include "vlmamba/data/data_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using io::Json;
using testing::ElementsAre;
using testing::IsEmpty;

const std::string kShared = VLMAMBA_SHARED_DATA;

Json without(const Json& object, const std::string& left_out) {
  Json copy = Json::object();
  for (const auto& [key, value] : object.members())
    if (key != left_out) copy.append(key, value);
  return copy;
}

// Records are compared one by one, without the fixture's remark on what each shows.
TEST(DataCheck, FindsExactlyWhatTheFixtureExpects) {
  const std::string folder = kShared + "/llava_format";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const auto tokenizer = Tokenizer::load(kShared + "/tokenizers/gpt_neox_20b");
  const Json expected = io::read_json(folder + "/expected.json", ExitCode::kData);
  for (const auto& [name, prompt_template] :
       {std::pair<std::string, PromptTemplate>{"pretrain.json", PromptTemplate::kPlain},
        {"instruct.json", PromptTemplate::kV1Neox}}) {
    PromptConfig prompt;
    prompt.template_name = prompt_template;
    const Json& wanted = *expected.find("files")->find(name);
    const Json got = DataChecker{tokenizer, prompt, folder + "/images", 576, 2048}.check(folder + "/" + name).to_json();
    EXPECT_EQ(without(got, "report").to_string(), without(wanted, "report").to_string());
    const auto &got_records = got.find("report")->items(), &wanted_records = wanted.find("report")->items();
    ASSERT_EQ(got_records.size(), wanted_records.size());
    for (size_t i = 0; i < got_records.size(); ++i)
      EXPECT_EQ(got_records[i].to_string(), without(wanted_records[i], "what").to_string());
  }
  const PromptConfig prompt;
  const DataChecker checker{tokenizer, prompt, folder, 576, 2048};
  for (const auto& [name, meaning] : expected.find("unreadable_files")->members())
    EXPECT_THROW(checker.check(folder + "/" + name), Error) << name;
  EXPECT_THAT(checker.check(folder + "/empty_array.json").records, IsEmpty());
}

class RecordCodes : public testing::Test {
 protected:
  std::vector<std::string> codes(const std::string& record) {
    const std::string path = testing::TempDir() + "/data_check_test.json";
    std::ofstream(path) << "[" << record << "]";
    const auto tokenizer = Tokenizer::load(std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json");
    const PromptConfig prompt;
    return DataChecker{tokenizer, prompt, testing::TempDir(), 9, 4096}.check(path).records.at(0).codes;
  }
};

TEST_F(RecordCodes, NameWhatIsWrongWithOneRecord) {
  const std::string turns = R"("conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}])";
  EXPECT_THAT(codes(R"({"id": "1", )" + turns + "}"), IsEmpty());
  EXPECT_THAT(codes("7"), ElementsAre("conversations_missing", "id_missing"));
  EXPECT_THAT(codes(R"({"id": "1", "image": 5, )" + turns + "}"), ElementsAre("image_missing", "image_without_tag"));
  EXPECT_THAT(codes(R"({"id": "1", "image": "/etc/hostname", )" + turns + "}"),
              ElementsAre("image_path_outside_root", "image_without_tag"));
  EXPECT_THAT(codes(R"({"id": "1", "image": "a/../../b.png", )" + turns + "}"),
              ElementsAre("image_path_outside_root", "image_without_tag"));
  EXPECT_THAT(codes(R"({"id": "1", "conversations": [{"from": "human", "value": "q"}, 5]})"),
              ElementsAre("role_unknown", "value_not_string"));
  EXPECT_THAT(codes(R"({"id": "1", "conversations": [{"from": "human", "value": "q"}]})"),
              ElementsAre("last_turn_dropped", "no_answer"));
  EXPECT_THAT(codes(R"({"id": "1", "conversations": [{"from": "gpt", "value": "a"}]})"),
              ElementsAre("first_turn_dropped", "no_answer"));
}

TEST(DataCheck, CountsThePartsOfTheMix) {
  const std::string path = testing::TempDir() + "/mix_test.json";
  std::ofstream(path)
      << R"([{"image": "coco/train2017/1.jpg"}, {"image": "vg/VG_100K_2/1.jpg"}, {}, {"image": "x.jpg"}])";
  std::vector<int64_t> found;
  int64_t published = 0;
  for (const auto& row : mix665k_composition(path)) {
    found.push_back(row.found);
    published += row.expected;
  }
  EXPECT_THAT(found, ElementsAre(1, 1, 0, 0, 0, 1, 1));
  EXPECT_EQ(published, 665'298);
}

}  // namespace
}  // namespace vlmamba
