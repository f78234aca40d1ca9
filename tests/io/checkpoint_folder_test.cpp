#include "vlmamba/io/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/io/faulty_disk.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_manifest.h"
#include "vlmamba/io/mapped_file.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;

CheckpointContent content_for(int64_t step) {
  CheckpointContent content;
  content.files["a"] = content_of("weights " + std::to_string(step));
  content.files["b"] = content_of(std::string(1000, 'b'));
  return content;
}

class Checkpoints : public testing::Test {
 protected:
  Checkpoints() { fs::remove_all(path_); }
  ~Checkpoints() override {
    fs::remove_all(path_);
    fs::remove_all(path_ + "-left");
  }

  void write(int64_t step) const { folder_.write(step, content_for(step)); }
  std::optional<int64_t> newest() {
    return folder_.newest([this](const std::string& why) { skipped_.push_back(why); });
  }
  static void change_byte(const std::string& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at).put(static_cast<char>(byte ^ 1));
  }

  std::string path_ = (fs::path(testing::TempDir()) / "vlmamba-checkpoints").string();
  CheckpointFolder folder_{path_};
  std::vector<std::string> skipped_;
};

TEST(Sha256, OfNistsExamples) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string path = testing::TempDir() + "/sha256_of_a_file", bytes(size_t{9} << 20, 'a');  // more than one part
  write_file_atomically(path, bytes);
  EXPECT_EQ(sha256(MappedFile(path)), sha256(bytes));
  Sha256 pieces;
  for (const char* piece : {"a", "", "bc"}) pieces.add(piece);
  EXPECT_EQ(pieces.finish(), sha256("abc"));
}

TEST_F(Checkpoints, AreWrittenWholeAndFound) {
  EXPECT_EQ(newest(), std::nullopt);
  for (const int64_t step : {5, 10, 15}) write(step);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(15, 10, 5));
  EXPECT_EQ(newest(), 15);
  EXPECT_EQ(read_file(folder_.step_path(10) + "/a", ExitCode::kIo), "weights 10");
  EXPECT_EQ(read_file(path_ + "/latest", ExitCode::kIo), "step_00000015\n");
}

TEST_F(Checkpoints, OnlyTheNewestAndTheBestAreKept) {
  for (const int64_t step : {5, 10, 15, 20}) write(step);
  folder_.retain(0, std::nullopt);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(20, 15, 10, 5));
  folder_.retain(2, 5);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(20, 15, 5));
  folder_.retain(1, 15);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(20, 15));
}

TEST_F(Checkpoints, DamagedLaterOnesAndUnfinishedSavesStandAsideOnceTrainingGoesOn) {
  for (const int64_t step : {1, 2, 3}) write(step);
  fs::create_directories(folder_.step_path(4) + ".unfinished");
  folder_.continue_from(1);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(1));
  EXPECT_TRUE(fs::exists(folder_.step_path(3) + ".damaged/a"));
  EXPECT_FALSE(fs::exists(folder_.step_path(4) + ".unfinished"));
  write(2);
  folder_.retain(1, std::nullopt);
  EXPECT_THAT(folder_.steps(), testing::ElementsAre(2));
}

// Every length that a file may be cut to, every byte that may differ, and no file at all.
TEST_F(Checkpoints, EveryDamageIsFoundAndNamed) {
  const test::Disk disk;
  write(1);
  int tried = 0;
  const auto damage = [&](const std::string& name, const auto& change) {
    fs::remove_all(folder_.step_path(2));
    write(2);
    change(folder_.step_path(2) + "/" + name);
    skipped_.clear();
    ++tried;
    ASSERT_EQ(newest(), 1) << name;
    ASSERT_EQ(skipped_.size(), 1u);
    ASSERT_THAT(skipped_[0], testing::HasSubstr("step_00000002/"));
  };
  write(2);
  for (const std::string name : {"a", "b", kManifestName}) {
    const auto size = static_cast<int64_t>(fs::file_size(folder_.step_path(2) + "/" + name));
    for (int64_t length = 0; length < size - 1; length += 7)
      damage(name, [&](const std::string& path) { fs::resize_file(path, static_cast<uintmax_t>(length)); });
    damage(name, [&](const std::string& path) { std::ofstream(path, std::ios::app) << "}"; });
    damage(name, [](const std::string& path) { fs::remove(path); });
    damage(name, [](const std::string& path) {
      fs::remove(path);
      fs::create_directory(path);
    });
    if (name == kManifestName) continue;  // its blanks and line feeds mean nothing
    for (int64_t at = 0; at < size; at += 5) damage(name, [&](const std::string& path) { change_byte(path, at); });
  }
  std::printf("damaged checkpoints found: %d of %d\n", tried, tried);
}

TEST_F(Checkpoints, SharedFilesAreWrittenOnceAndVerified) {
  const SharedFiles parts(path_ + "/parts");
  const Content weights = content_of(std::string(5000, 'w'));
  const SharedFile part = parts.put("encoder", weights);
  const auto written = fs::last_write_time(part.path);
  EXPECT_EQ(parts.put("encoder", weights).path, part.path);
  EXPECT_EQ(fs::last_write_time(part.path), written);
  EXPECT_NE(parts.put("encoder", content_of("other")).path, part.path);

  CheckpointContent content = content_for(1);
  content.references["encoder"] = part;
  folder_.write(1, content);
  const auto manifest = read_manifest(folder_.step_path(1));
  EXPECT_TRUE(fs::path(manifest.references.at("encoder").path).is_relative());
  EXPECT_EQ(newest(), 1);

  const std::string moved = path_ + "-left";  // the run goes elsewhere as a whole
  fs::copy(path_, moved, fs::copy_options::recursive);
  EXPECT_NO_THROW(verify_checkpoint(CheckpointFolder(moved).step_path(1)));

  change_byte(part.path, 2500);
  EXPECT_EQ(newest(), std::nullopt);
  EXPECT_THAT(skipped_.back(), testing::AllOf(testing::HasSubstr(part.path), testing::HasSubstr("SHA-256"),
                                              testing::HasSubstr("refers to it for its encoder")));
  parts.put("encoder", weights);  // damage is mended where the content is at hand
  EXPECT_EQ(newest(), 1);
  fs::remove(part.path);
  EXPECT_EQ(newest(), std::nullopt);
  EXPECT_THAT(skipped_.back(), testing::HasSubstr(part.path + "] expected a file, got no such file"));
}

TEST_F(Checkpoints, AFailureOfAnyCallLeavesTheEarlierOnesWhole) {
  const test::Disk quick;
  int injected = 0;
  for (const int number : {ENOSPC, EIO, EDQUOT})
    for (const bool lasting : {false, true})
      for (int call = 1;; ++call) {
        fs::remove_all(path_);
        write(1);
        bool failed = false, reached = false;
        {
          test::FaultyDisk disk(call, number, lasting);
          try {
            write(2);
          } catch (const Error& error) {
            failed = true;
            EXPECT_EQ(error.code(), ExitCode::kIo);
            EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("step_00000002] expected to write 1009 bytes"),
                                                     testing::HasSubstr("earlier checkpoints are intact")));
          }
          reached = disk.failed();
        }
        ASSERT_EQ(failed, reached) << "call " << call;
        ASSERT_TRUE(newest().has_value());
        EXPECT_TRUE(skipped_.empty());
        for (const auto& entry : fs::directory_iterator(path_))
          EXPECT_FALSE(entry.path().string().ends_with(".unfinished") || entry.path().string().find(".tmp") + 1);
        write(2);  // the next try
        EXPECT_EQ(newest(), 2);
        if (!reached) {
          EXPECT_GT(call, 15);
          break;
        }
        ++injected;
      }
  std::printf("failures injected into a save: %d, checkpoints lost: 0\n", injected);
}

TEST_F(Checkpoints, AnInterruptedWriteGoesOn) {
  {
    const test::FaultyDisk disk(2, EINTR, false, "/b");
    write(1);
  }
  EXPECT_EQ(newest(), 1);
}

// The machine stops before any call, in the middle of any write, with or without what was not synced yet.
TEST_F(Checkpoints, AStopAtAnyPointLeavesTheOldOneOrTheNewOneWhole) {
  const SharedFiles parts(path_ + "/parts");
  write(1);
  std::vector<std::string> left;
  {
    test::StoppingDisk disk(path_, path_ + "-left");
    CheckpointContent content = content_for(2);
    content.references["encoder"] = parts.put("encoder", content_of(std::string(3000, 'e')));
    folder_.write(2, content);
    folder_.retain(1, std::nullopt);
    left = disk.left();
  }
  left.push_back(path_);
  ASSERT_GT(left.size(), 50u);
  bool found_old = false, found_new = false;
  for (const auto& place : left) {
    const CheckpointFolder folder(place);
    skipped_.clear();
    const auto step = folder.newest([this](const std::string& why) { skipped_.push_back(why); });
    ASSERT_TRUE(step.has_value()) << place << testing::PrintToString(skipped_);
    (*step == 1 ? found_old : found_new) = true;
    EXPECT_EQ(read_file(folder.step_path(*step) + "/a", ExitCode::kIo), "weights " + std::to_string(*step));
  }
  EXPECT_TRUE(found_old && found_new);
  std::printf("stops tried: %zu, runs that went on: %zu\n", left.size(), left.size());
}

TEST_F(Checkpoints, LinesThatAFullDiskRefusesComeLater) {
  fs::create_directories(path_);
  AppendFile file(path_ + "/log");
  EXPECT_TRUE(file.append("one\n"));
  {
    test::FaultyDisk disk(1, ENOSPC, true);
    EXPECT_FALSE(file.append("two\n"));
    EXPECT_FALSE(file.append("three\n"));
    EXPECT_FALSE(file.sync());
    EXPECT_THROW(file.finish(), WriteError);
  }
  EXPECT_TRUE(file.append("four\n"));
  file.finish();
  EXPECT_EQ(read_file(path_ + "/log", ExitCode::kIo), "one\ntwo\nthree\nfour\n");
}

}  // namespace
}  // namespace vlmamba::io
