#include "vlmamba/io/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/mapped_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

class Checkpoints : public testing::Test {
 protected:
  Checkpoints() { fs::remove_all(path_); }
  ~Checkpoints() override { fs::remove_all(path_); }

  void write(int64_t step, int64_t keep_last = 0) const {
    folder_.write(
        step,
        {{"a", [step] { return "weights " + std::to_string(step); }}, {"b", [] { return std::string(1000, 'b'); }}},
        keep_last);
  }
  std::optional<int64_t> newest() {
    return folder_.newest([this](const std::string& why) { skipped_.push_back(why); });
  }

  std::string path_ = testing::TempDir() + "/vlmamba-checkpoints";
  CheckpointFolder folder_{path_};
  std::vector<std::string> skipped_;
};

TEST(Sha256, OfNistsExamples) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string path = testing::TempDir() + "/sha256_of_a_file", bytes(size_t{9} << 20, 'a');  // more than one part
  write_file_atomically(path, bytes);
  EXPECT_EQ(sha256(MappedFile(path)), sha256(bytes));
}

TEST_F(Checkpoints, AreWrittenWholeAndFound) {
  EXPECT_EQ(newest(), std::nullopt);
  for (const int64_t step : {5, 10, 15}) write(step);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(15, 10, 5));
  EXPECT_EQ(newest(), 15);
  EXPECT_EQ(read_file(folder_.step_path(10) + "/a", ExitCode::kIo), "weights 10");
  EXPECT_EQ(read_file(path_ + "/latest", ExitCode::kIo), "step_00000015\n");
}

TEST_F(Checkpoints, OnlyTheNewestAreKept) {
  for (const int64_t step : {5, 10, 15}) write(step, 2);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(15, 10));
}

TEST_F(Checkpoints, EveryDamageIsFoundAndNamed) {
  const auto damage = [&](const std::string& name, const auto& change) {
    fs::remove_all(path_);
    write(1);
    write(2);
    change(folder_.step_path(2) + "/" + name);
    skipped_.clear();
    EXPECT_EQ(newest(), 1) << name;
    ASSERT_EQ(skipped_.size(), 1u);
    EXPECT_THAT(skipped_[0], testing::HasSubstr("step_00000002/" + name));
  };
  damage("b", [](const std::string& path) { fs::resize_file(path, 999); });
  damage("b", [](const std::string& path) { std::fstream(path, std::ios::in | std::ios::out).seekp(500).put('c'); });
  damage("a", [](const std::string& path) { fs::remove(path); });
  damage("manifest.json", [](const std::string& path) { fs::remove(path); });
  damage("manifest.json", [](const std::string& path) { fs::resize_file(path, 20); });
}

// Fails the n-th call, once or from then on.
struct Failing : FileSystem {
  Failing(int call, bool forever) : at(call), lasting(forever) {}
  int at, calls = 0;
  bool lasting;
  bool fails() { return ++calls == at || (lasting && calls > at); }
  int write_synced(const std::string& path, std::string_view bytes) override {
    if (!fails()) return FileSystem::write_synced(path, bytes);
    FileSystem::write_synced(path, bytes.substr(0, bytes.size() / 2));  // a torn write
    return ENOSPC;
  }
  int rename(const std::string& from, const std::string& to) override {
    return fails() ? EIO : FileSystem::rename(from, to);
  }
};

TEST_F(Checkpoints, AFailureOfAnyCallLeavesTheEarlierOnesWhole) {
  for (const bool forever : {false, true})
    for (int call = 1;; ++call) {
      fs::remove_all(path_);
      write(1);
      Failing failing(call, forever);
      FileSystem* before = FileSystem::replace(&failing);
      bool failed = false;
      try {
        write(2);
      } catch (const Error& error) {
        failed = true;
        EXPECT_EQ(error.code(), ExitCode::kIo);
      }
      FileSystem::replace(before);
      const auto found = newest();
      ASSERT_TRUE(found.has_value());
      EXPECT_TRUE(skipped_.empty());
      for (const auto& entry : fs::directory_iterator(path_))
        EXPECT_FALSE(entry.path().string().ends_with(".unfinished"));
      if (!failed) {
        EXPECT_GT(call, 5);
        break;
      }
    }
}

}  // namespace
}  // namespace vlmamba::io
