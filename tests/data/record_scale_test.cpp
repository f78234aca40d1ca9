#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "vlmamba/core/rng.h"
#include "vlmamba/data/record_file.h"

// LLaVA-1.5's mix in number and size: 665,298 records, about 1 GB. Prints what an index of it costs.

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRecords = 665'298;
constexpr int64_t kTextOnly = 40'688;  // at the end of the file

// A line of /proc/self/status, in MB.
int64_t status_megabytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) / 1000;
  return 0;
}

int64_t turns_of(int64_t record) { return 2 + 2 * (record % 9); }

void write_records(const std::string& path) {
  std::ofstream file(path, std::ios::binary);
  Rng rng(1, RngPurpose::kExample);
  std::string text = "[";
  for (int64_t i = 0; i < kRecords; ++i) {
    const std::string id = std::to_string(i);
    const bool picture = i < kRecords - kTextOnly;
    text += (i ? ",\n  {\"id\": \"" : "\n  {\"id\": \"") + id + "\",";
    if (picture) text += " \"image\": \"coco/train2017/" + id + ".jpg\",";
    text += " \"conversations\": [";
    for (int64_t turn = 0; turn < turns_of(i); ++turn) {
      text += turn ? ", " : "";
      text += turn % 2 ? R"({"from": "gpt", "value": ")" : R"({"from": "human", "value": ")";
      if (turn == 0 && picture) text += "<image>\\n";
      for (uint64_t word = 0, words = 5 + rng.below(35); word < words; ++word) text += word ? " \\\"word\\\"" : "Some";
      text += "\"}";
    }
    text += "]}";
    if (text.size() > (1u << 20) || i + 1 == kRecords) {
      file << text;
      text.clear();
    }
  }
  file << "\n]\n";
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(RecordFile, AFileOfTheMixsSizeIsIndexedInLittleMemory) {
  const fs::path folder = fs::path(testing::TempDir()) / "vlmamba-record-scale";
  fs::create_directories(folder);
  const std::string path = (folder / "mix.json").string(), cache = (folder / "mix.index").string();
  write_records(path);
  const int64_t before = status_megabytes("VmRSS");
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak from here on
  const double first = seconds_of([&] { EXPECT_EQ(RecordFile(path, cache).size(), kRecords); });
  const int64_t peak = status_megabytes("VmHWM") - before;
  std::unique_ptr<RecordFile> file;
  const double again = seconds_of([&] { file = std::make_unique<RecordFile>(path, cache); });
  Rng rng(2, RngPurpose::kExample);
  const int64_t reads = 20'000;
  const double reading = seconds_of([&] {
    for (int64_t i = 0; i < reads; ++i) {
      const auto number = static_cast<int64_t>(rng.below(kRecords));
      const Record record = file->read(number);
      ASSERT_EQ(record.id, std::to_string(number));
      ASSERT_EQ(static_cast<int64_t>(record.turns.size()), turns_of(number));
      ASSERT_EQ(record.images.size(), number < kRecords - kTextOnly ? 1u : 0u);
    }
  });
  std::printf(
      "%lld records, %.2f GB: index %.1f s, peak memory +%lld MB (+%lld MB with the program); kept index %.2f s; "
      "a record %.0f us\n",
      static_cast<long long>(kRecords), static_cast<double>(fs::file_size(path)) * 1e-9, first,
      static_cast<long long>(peak), static_cast<long long>(peak + before), again, reading / reads * 1e6);
  fs::remove_all(folder);
  EXPECT_LT(peak, 300);
}

}  // namespace
}  // namespace vlmamba
