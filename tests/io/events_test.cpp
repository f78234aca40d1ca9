#include "vlmamba/io/events.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace vlmamba::io {
namespace {

template <typename T>
T read_at(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

// The payloads of a TFRecord file, with every checksum verified.
std::vector<std::string> records(const std::string& bytes) {
  const auto unmask = [](uint32_t masked) {
    const uint32_t rotated = masked - 0xa282ead8u;
    return rotated << 15 | rotated >> 17;
  };
  std::vector<std::string> payloads;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = read_at<uint64_t>(bytes, at);
    EXPECT_EQ(unmask(read_at<uint32_t>(bytes, at + 8)), crc32c(bytes.substr(at, 8)));
    payloads.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(unmask(read_at<uint32_t>(bytes, at + 12 + length)), crc32c(payloads.back()));
    at += 16 + length;
  }
  return payloads;
}

TEST(Events, ChecksumIsCrc32c) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);  // RFC 3720, B.4
}

TEST(Events, FileHoldsVersionAndScalarsInTensorBoardsEncoding) {
  const std::string folder = testing::TempDir() + "/events_test";
  std::filesystem::remove_all(folder);
  { EventWriter(folder).scalar("loss", 300, 0.5f, 2.0); }
  const auto path = std::filesystem::directory_iterator(folder)->path();
  std::ifstream file(path, std::ios::binary);
  const auto payloads = records({std::istreambuf_iterator<char>(file), {}});
  ASSERT_EQ(payloads.size(), 2u);
  EXPECT_NE(payloads[0].find("brain.Event:2"), std::string::npos);
  using namespace std::string_literals;
  // wall_time 2.0, step 300, summary { value { tag "loss" simple_value 0.5 } }, written out by hand from event.proto
  EXPECT_EQ(payloads[1], "\x09\0\0\0\0\0\0\0\x40\x10\xac\x02\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\0\x3f"s);
}

}  // namespace
}  // namespace vlmamba::io
