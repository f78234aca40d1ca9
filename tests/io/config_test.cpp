#include "vlmamba/io/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "tests/io/faulty_disk.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::io {
namespace {

enum class Shade { kLight, kDark };
constexpr auto enum_names(Shade) {
  return std::array{EnumName<Shade>{Shade::kLight, "light"}, EnumName<Shade>{Shade::kDark, "dark"}};
}

struct Stage {
  std::string name;
  double lr = 1e-3;
  std::optional<int64_t> steps;
  template <typename F>
  void visit(F& f) {
    f("name", name, "of the stage");
    f("lr", lr, "peak rate", Range{0, 1});
    f("steps", steps, "optimizer steps", Range{1});
  }
};

struct Plan {
  int64_t seed = 1;
  bool fast = false;
  Shade shade = Shade::kLight;
  std::string output_dir = "runs";
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::vector<std::string> parts;
  std::map<std::string, double> rates;
  std::vector<Stage> stages;
  template <typename F>
  void visit(F& f) {
    f("seed", seed, "of every draw", Range{0});
    f("fast", fast, "less exact");
    f("shade", shade, "of the paper");
    f("output_dir", output_dir, "where the run goes");
    f("mean", mean, "of the channels");
    f("parts", parts, "that train");
    f("rates", rates, "by part");
    f("stages", stages, "in order");
  }
};

Plan read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  Json json = parse_json(text, "run.json", ExitCode::kUsage, /*comments=*/true);
  apply_overrides(json, overrides);
  return from_json<Plan>(json, "run.json");
}

std::string message(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "no error";
}

TEST(Config, ReadsEveryKindOfMember) {
  const Plan run = read(R"({ // a comment
    "seed": 7, "fast": true, "shade": "dark", "output_dir": "a/b", "mean": [0, 1.5, 2], "parts": ["x", "y"],
    "rates": {"x": 0.5}, "stages": [{"name": "one", "steps": 3}, {"name": "two", "steps": null}] })");
  EXPECT_EQ(run.seed, 7);
  EXPECT_TRUE(run.fast);
  EXPECT_EQ(run.shade, Shade::kDark);
  EXPECT_EQ(run.mean[1], 1.5);
  EXPECT_EQ(run.parts.size(), 2u);
  EXPECT_EQ(run.rates.at("x"), 0.5);
  EXPECT_EQ(run.stages[0].steps, 3);
  EXPECT_FALSE(run.stages[1].steps.has_value());
}

TEST(Config, WhatIsWrittenReadsBackTheSame) {
  const Plan run = read(R"({"stages": [{"name": "one", "lr": 0.1}], "rates": {"x": 1e-300}, "mean": [0.1, 1e20, 3]})");
  const std::string text = write_config(run).to_string(2);
  EXPECT_EQ(write_config(read(text)).to_string(2), text);
}

TEST(Config, OverridesAreTypedByTheField) {
  const Plan run = read(R"({"stages": [{"name": "align"}, {"name": "instruct"}]})",
                        {"seed=3", "output_dir=17", "shade=dark", "stages.instruct.lr=0.25", "stages.0.steps=9",
                         "parts=[\"x\"]", "rates.lm=0.5", "fast=true"});
  EXPECT_EQ(run.seed, 3);
  EXPECT_EQ(run.output_dir, "17");
  EXPECT_EQ(run.shade, Shade::kDark);
  EXPECT_EQ(run.stages[1].lr, 0.25);
  EXPECT_EQ(run.stages[0].steps, 9);
  EXPECT_EQ(run.parts.at(0), "x");
  EXPECT_EQ(run.rates.at("lm"), 0.5);
  EXPECT_TRUE(run.fast);
}

struct Malformed {
  const char* text;
  const char* expected;
  std::vector<std::string> overrides = {};
};

const std::vector<Malformed> kMalformed{
    // what is no JSON
    {"", "[run.json:1:1] expected JSON"},
    {"{", "[run.json:1:1] expected JSON"},
    {"{\"seed\": 1,}", "expected JSON"},
    {"{\"seed\": nan}", "[run.json:1:11] expected JSON"},
    {"{\"seed\": 1} x", "expected end of input"},
    {"{\"seed\": 1 \"fast\": true}", "expected JSON"},
    {"{'seed': 1}", "[run.json:1:2] expected JSON"},
    {"{\"seed\": 01}", "expected JSON"},
    {"{\"output_dir\": \"\xff\"}", "expected JSON"},
    {"{\n\"seed\": 1,\n\"seed\": 2}", "[run.json:3:1] expected each key once, got \"seed\" again"},
    // what is no config
    {"[]", "expected an object, got []"},
    {"3", "expected an object, got 3"},
    {"null", "expected an object, got null"},
    // wrong types
    {"{\"seed\": \"1\"}", "[run.json:1:10] seed: expected an integer, got \"1\""},
    {"{\"seed\": 1.5}", "seed: expected an integer, got 1.5"},
    {"{\"seed\": null}", "seed: expected an integer, got null"},
    {"{\"seed\": 1e30}", "seed: expected an integer"},
    {"{\"fast\": 1}", "fast: expected true or false, got 1"},
    {"{\"output_dir\": 3}", "output_dir: expected a string, got 3"},
    {"{\"shade\": \"grey\"}", "shade: expected light | dark, got \"grey\""},
    {"{\"shade\": 1}", "shade: expected light | dark, got 1"},
    {"{\"mean\": [1, 2]}", "mean: expected 3 values, got 2"},
    {"{\"mean\": [1, 2, \"3\"]}", "mean.2: expected a number, got \"3\""},
    {"{\"mean\": 1}", "mean: expected an array, got 1"},
    {"{\"parts\": {}}", "parts: expected an array, got {}"},
    {"{\"parts\": [1]}", "parts.0: expected a string, got 1"},
    {"{\"rates\": []}", "rates: expected an object, got []"},
    {"{\"rates\": {\"x\": \"y\"}}", "rates.x: expected a number, got \"y\""},
    {"{\"stages\": {}}", "stages: expected an array, got {}"},
    {"{\"stages\": [3]}", "stages.0: expected an object, got 3"},
    // out of range
    {"{\"seed\": -1}", "seed: expected at least 0, got -1"},
    {"{\"stages\": [{\"name\": \"a\", \"lr\": 2}]}", "stages.a.lr: expected at least 0 and at most 1, got 2"},
    {"{\"stages\": [{\"steps\": 0}]}", "stages.0.steps: expected at least 1, got 0"},
    // unknown keys
    {"{\"sed\": 1}", "sed: unknown key; did you mean \"seed\"?"},
    {"{\"stages\": [{\"name\": \"a\", \"learning_rate\": 1}]}",
     "stages.a.learning_rate: unknown key; here it is called optimizer.lr"},
    {"{\"vision_tower\": 1}", "here it is called model.vision_encoder"},
    {"{\"zzzzzzzz\": 1}",
     "zzzzzzzz: unknown key\n    allowed: seed, fast, shade, output_dir, mean, parts, rates, stages"},
    // overrides
    {"{}", "[--set seed] expected key.path=value", {"seed"}},
    {"{}", "[--set] seed: expected an integer, got \"x\"", {"seed=x"}},
    {"{}", "[--set] nothing: unknown key", {"nothing=1"}},
    {"{\"stages\": [{\"name\": \"a\"}, {\"name\": \"b\"}]}", "expected one of a, b, got \"c\"", {"stages.c.lr=1"}},
    {"{\"seed\": 1}", "expected a section before \".x\", got a value", {"seed.x=1"}},
    {"{}", "expected key.path=value, got an empty key", {"rates..x=1"}},
};

TEST(Config, EveryMalformedOneIsNamed) {
  EXPECT_GE(kMalformed.size(), 40u);
  for (const auto& bad : kMalformed)
    EXPECT_NE(message(bad.text, bad.overrides).find(bad.expected), std::string::npos)
        << bad.text << "\n  gave: " << message(bad.text, bad.overrides) << "\n  expected: " << bad.expected;
}

TEST(Config, AllErrorsComeAtOnce) {
  const std::string text = message("{\"seed\": -1, \"fast\": 3, \"oops\": 1}");
  for (const char* part :
       {"seed: expected at least 0", "fast: expected true or false", "oops: unknown key", "3 errors"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(Config, ReferenceListsEveryKeyWithItsRange) {
  const auto keys = config_reference<Plan>();
  const auto found = std::find_if(keys.begin(), keys.end(), [](const auto& key) { return key.path == "stages[].lr"; });
  ASSERT_NE(found, keys.end());
  EXPECT_EQ(found->type, "number, at least 0, at most 1");
  EXPECT_EQ(found->fallback, "0.001");
}

TEST(Json, DepthIsLimited) {
  const std::string deep(100000, '[');
  EXPECT_THROW(parse_json(deep, "deep", ExitCode::kData), Error);
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "ok", ExitCode::kData));
}

TEST(Json, ValuesKnowWhereTheyStood) {
  const Json json =
      parse_json("{\"a\": 1,\n  // note: [1]\n  \"b\" : [true, {\"c\": \"d\"}]}", "x", ExitCode::kData, true);
  const Json& b = *json.find("b");
  EXPECT_EQ(b.line, 3);
  EXPECT_EQ(b.column, 9);
  EXPECT_EQ(b.items()[1].find("c")->column, 22);
}

TEST(AtomicFile, DevicesStayAndLinksAreFollowed) {
  EXPECT_THROW(write_file_atomically("/dev/null", "x"), Error);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  const std::string file = testing::TempDir() + "/atomic_target", link = testing::TempDir() + "/atomic_link";
  std::filesystem::remove(link);
  write_file_atomically(file, "old");
  std::filesystem::create_symlink(file, link);
  write_file_atomically(link, "new");
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_file(file, ExitCode::kIo), "new");
}

TEST(AtomicFile, AFullDiskLeavesTheOldFileAndNothingElse) {
  const std::string folder = testing::TempDir() + "/atomic_file_test";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const std::string path = folder + "/file";
  write_file_atomically(path, "old");
  try {
    const test::FaultyDisk full(2, ENOSPC, true);
    write_file_atomically(path, "new and longer");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find("expected to write 14 bytes, got: No space left on device"),
              std::string::npos);
  }
  EXPECT_EQ(read_file(path, ExitCode::kIo), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1);
}

}  // namespace
}  // namespace vlmamba::io
