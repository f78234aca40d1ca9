#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <iostream>
#include <sstream>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kTokenizer = std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json";

test::Outcome tokenize(const std::string& input, std::vector<std::string> more = {}) {
  std::istringstream in(input);
  auto* before = std::cin.rdbuf(in.rdbuf());
  std::cin.clear();
  more.insert(more.begin(), {"tokenize", "--tokenizer", kTokenizer});
  const auto outcome = test::vlmamba(more);
  std::cin.rdbuf(before);
  return outcome;
}

TEST(Tokenize, TurnsLinesIntoIdsAndBack) {
  const std::string text = "\"is there a 3?\"\n\"\"\n\"a\\n<|endoftext|>b \\u00e9\"\n";
  const auto ids = tokenize(text);
  ASSERT_EQ(ids.code, 0) << ids.err;
  EXPECT_THAT(ids.out, HasSubstr("]\n[]\n["));
  EXPECT_EQ(tokenize(ids.out, {"--decode"}).out, "\"is there a 3?\"\n\"\"\n\"a\\n<|endoftext|>b é\"\n");
  EXPECT_EQ(tokenize(ids.out, {"--decode", "--skip-special"}).out, "\"is there a 3?\"\n\"\"\n\"a\\nb é\"\n");
}

TEST(Tokenize, SpecialTokensArePlainTextOnDemand) {
  EXPECT_EQ(tokenize("\"<|endoftext|>\"\n").out, "[0]\n");
  const auto text = tokenize("\"<|endoftext|>\"\n", {"--special-as-text"});
  EXPECT_THAT(text.out, Not(HasSubstr("[0")));
  EXPECT_EQ(tokenize(text.out, {"--decode"}).out, "\"<|endoftext|>\"\n");
}

TEST(Tokenize, WrongLinesAreNamed) {
  for (const auto& [input, options, expected] :
       std::vector<std::tuple<std::string, std::vector<std::string>, std::string>>{
           {"\"a\"\n[1]\n", {}, "[standard input:2] expected a string, got an array"},
           {"\"a\n", {}, "standard input:1"},
           {"\"a\"\n", {"--decode"}, "expected an array of ids, got a string"},
           {"[1.5]\n", {"--decode"}, "expected an array of ids, got [1.5]"},
           {"[1, 465]\n", {"--decode"}, "[standard input:1] expected ids of 0 to 464, got 465"},
           {"[-200]\n", {"--decode"}, "expected ids of 0 to 464, got -200"}}) {
    const auto outcome = tokenize(input, options);
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(outcome.err, HasSubstr(expected));
  }
  EXPECT_EQ(tokenize("", {"--skip-special"}).code, 2);
}

TEST(Preprocess, StacksPicturesOfOneSizeAndNamesTheOthers) {
  const test::Folder folder;
  test::make_pictures(folder / "images", 2);
  io::write_png((folder / "images/wide.png").string(), {4, 2, std::vector<uint8_t>(24, 51)});
  const std::string images = (folder / "images").string(), output = (folder / "out.safetensors").string();
  const auto run = [&](const std::string& config, std::vector<std::string> more) {
    test::write(folder / "preprocessor_config.json", config);
    std::vector<std::string> all{"preprocess", "--processor", (folder / "preprocessor_config.json").string(),
                                 "--output", output};
    all.insert(all.end(), more.begin(), more.end());
    return test::vlmamba(all);
  };
  const auto values = [&](const std::string& name, std::vector<int64_t>& shape) {
    const io::SafetensorsFile file(output);
    std::vector<float> all;
    if (const auto* tensor = file.find(name)) {
      shape = tensor->shape;
      all.resize((tensor->end - tensor->begin) / sizeof(float));
      std::memcpy(all.data(), file.data(*tensor), all.size() * sizeof(float));
    }
    return all;
  };
  std::vector<int64_t> shape;
  const std::string siglip = R"({"image_processor_type": "SiglipImageProcessor", "size": {"height": 2, "width": 2}})";
  ASSERT_EQ(run(siglip, {images + "/wide.png", images + "/0.png", images + "/wide.png"}).code, 0);
  auto stacked = values("pixel_values", shape);
  EXPECT_EQ(shape, (std::vector<int64_t>{3, 3, 2, 2}));
  EXPECT_NEAR(stacked[0], 51 / 255.0 * 2 - 1, 1e-6);
  EXPECT_EQ(stacked[0], stacked[24]);
  ASSERT_EQ(run(siglip, {"--pad-to-square", images + "/wide.png"}).code, 0);
  EXPECT_NE(values("pixel_values", shape)[0], stacked[0]);  // the colour around it came in

  const std::string as_is = R"({"image_processor_type": "SiglipImageProcessor", "do_resize": false})";
  ASSERT_EQ(run(as_is, {images + "/0.png", images + "/wide.png"}).code, 0);
  EXPECT_EQ(values("wide.png", shape).size(), 24u);
  EXPECT_EQ(shape, (std::vector<int64_t>{3, 2, 4}));
  EXPECT_EQ(values("0.png", shape).size(), 192u);

  test::write(folder / "images/page.jpg", "<html>");
  EXPECT_EQ(run(siglip, {images + "/page.jpg"}).code, 3);
  EXPECT_EQ(run(R"({"image_processor_type": "ViTImageProcessor"})", {images + "/0.png"}).code, 4);
  EXPECT_EQ(run("{", {images + "/0.png"}).code, 4);
}

}  // namespace
}  // namespace vlmamba
