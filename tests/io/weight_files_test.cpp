#include "vlmamba/io/weights/weight_files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/io/archive.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

class WeightFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / "weight_files_test";
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }
  static std::string tensors(const std::vector<std::string>& names) {
    static const float value = 1;
    std::vector<TensorView> views;
    for (const auto& name : names) views.push_back({name, "F32", {1}, &value, sizeof value});
    return to_safetensors(views, {});
  }
  void write_shards(const std::string& map, const std::string& total = "12") const {
    write("one.safetensors", tensors({"a", "b"}));
    write("two.safetensors", tensors({"c"}));
    write("model.safetensors.index.json",
          R"({"metadata": {"total_size": )" + total + R"(}, "weight_map": )" + map + "}");
  }
  std::string message() const {
    try {
      WeightFiles files(folder_.string());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kWeights);
      return error.what();
    }
    return "no error";
  }
  void expect_refused(const std::string& expected) const {
    EXPECT_NE(message().find(expected), std::string::npos) << message();
  }

  fs::path folder_;
};

constexpr const char* kMap = R"({"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})";

TEST_F(WeightFilesTest, ShardsAreOneTable) {
  write_shards(kMap);
  const WeightFiles files(folder_.string());
  EXPECT_EQ(files.tensors().size(), 3u);
  EXPECT_EQ(files.format(), "safetensors, 2 shards");
  float value = 0;
  std::memcpy(&value, files.find("c")->data(), sizeof value);
  EXPECT_EQ(value, 1);
}

TEST_F(WeightFilesTest, FormatsAreToldApartByContentNotByName) {
  write("pytorch_model.bin", tensors({"a"}));
  EXPECT_EQ(WeightFiles(folder_.string()).format(), "safetensors");
  write(
      "pytorch_model.bin",
      test::archive({{"x/data.pkl",
                      test::pickle(test::dict({{"a", test::tensor(test::storage("LongStorage", "0", 1), 0, {}, {})}}))},
                     {"x/data/0", std::string(8, '\x02')}}));
  const WeightFiles files(folder_.string());
  EXPECT_EQ(files.format(), "torch");
  EXPECT_EQ(files.find("a")->dtype, "I64");
}

TEST_F(WeightFilesTest, AnIndexThatDisagreesWithItsShardsIsRefused) {
  write_shards(R"({"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors", "d": "two.safetensors"})");
  expect_refused("expected the tensor d of the index, got none");
  write_shards(R"({"a": "one.safetensors", "c": "two.safetensors"})");
  expect_refused("one.safetensors: b] expected the tensors of the index, got one that it lacks");
  write_shards(kMap, "13");
  expect_refused("total_size: expected 12, got 13");
  write_shards(kMap, "\"12\"");
  expect_refused("total_size: expected a number, got \"12\"");
  write_shards(R"({"a": "one.safetensors", "b": "one.safetensors", "c": "three.safetensors"})");
  expect_refused("expected a file beside the index, got none");
  write_shards(kMap);
  write("two.safetensors", tensors({"c", "a"}));
  expect_refused("two.safetensors: a] expected");
  write_shards(R"({"a": 1})");
  expect_refused("expected the name of a file");
  write_shards("{}");
  expect_refused("weight_map: expected tensors, got none");
  write("model.safetensors.index.json", R"({"weight_map": [)");
  expect_refused("model.safetensors.index.json:1:");
}

TEST_F(WeightFilesTest, TheTotalOfTorchShardsMayCountASharedStorageOnce) {
  const std::string scalar = test::tensor(test::storage("LongStorage", "0", 1), 0, {}, {});
  for (const auto& [name, dict] :
       {std::pair("one.bin", test::dict({{"a", scalar}, {"b", scalar}})), {"two.bin", test::dict({{"c", scalar}})}})
    write(name, test::archive({{"x/data.pkl", test::pickle(dict)}, {"x/data/0", std::string(8, '\x02')}}));
  const auto promise = [&](int total) {
    write("pytorch_model.bin.index.json", R"({"metadata": {"total_size": )" + std::to_string(total) +
                                              R"(}, "weight_map": {"a": "one.bin", "b": "one.bin", "c": "two.bin"}})");
  };
  for (const int total : {16, 24}) {
    promise(total);
    EXPECT_EQ(message(), "no error") << total;
  }
  for (const int total : {15, 25}) {
    promise(total);
    expect_refused("total_size: expected 24, got " + std::to_string(total));
  }
}

TEST_F(WeightFilesTest, ShardsElsewhereAreRefused) {
  for (const std::string name :
       {"../one.safetensors", "/etc/passwd", ".", "..", "sub/one.safetensors", "one.safetensors\\u0000", ""}) {
    write_shards("{\"a\": \"" + name + "\"}");
    expect_refused("expected the name of a file beside the index, got a path");
  }
  const fs::path other = fs::path(testing::TempDir()) / "weight_files_test_other.safetensors";
  std::ofstream(other, std::ios::binary) << tensors({"c"});
  write_shards(kMap);
  fs::remove(folder_ / "two.safetensors");
  fs::create_symlink(other, folder_ / "two.safetensors");
  expect_refused("got a link out of its folder");
}

TEST_F(WeightFilesTest, LinksOfTheHubsCacheAreFollowed) {
  const fs::path root = folder_;
  fs::create_directories(root / "blobs");
  folder_ = root / "snapshots" / "main";
  fs::create_directories(folder_);
  write_shards(kMap);
  fs::rename(folder_ / "two.safetensors", root / "blobs" / "hash");
  fs::create_symlink("../../blobs/hash", folder_ / "two.safetensors");
  EXPECT_EQ(message(), "no error");
}

TEST_F(WeightFilesTest, WhatIsNoRegularFileIsRefusedWithoutWaiting) {
  const std::string pipe = (folder_ / "model.safetensors").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  expect_refused("expected a regular file");
  fs::remove(pipe);
  expect_refused("expected model.safetensors, pytorch_model.bin or the index of their shards");
  EXPECT_THROW(WeightFiles("/nowhere"), Error);
  EXPECT_THROW(WeightFiles("/dev/zero"), Error);
}

TEST_F(WeightFilesTest, APrefixSelectsTensorsAndIsTakenAway) {
  write("model.safetensors", tensors({"model.a", "other.a"}));
  const WeightFiles files(folder_.string(), "model.");
  ASSERT_EQ(files.tensors().size(), 1u);
  EXPECT_NE(files.find("a"), nullptr);
}

TEST_F(WeightFilesTest, AFileThatChangesWhileItIsReadIsNoticed) {
  write("model.safetensors", tensors({"a"}));
  const WeightFiles files(folder_.string());
  EXPECT_NO_THROW(files.check_unchanged());
  write("model.safetensors", tensors({"a", "b"}));
  EXPECT_THROW(files.check_unchanged(), Error);
}

}  // namespace
}  // namespace vlmamba::io
