#include "vlmamba/io/weights/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

std::string written(const std::string& bytes) {
  const std::string path = testing::TempDir() + "/safetensors_test.safetensors";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string message(const std::string& bytes) {
  try {
    SafetensorsFile file(written(bytes));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kWeights);
    return error.what();
  }
  return "no error";
}

TEST(Safetensors, WhatIsWrittenReadsBack) {
  const float values[]{1, 2, 3};
  const int64_t id = 7;
  const std::string bytes = to_safetensors(
      {{"a", "F32", {3}, values, sizeof values}, {"none", "F32", {0, 4}, nullptr, 0}, {"id", "I64", {}, &id, 8}},
      {{"about", "test"}});
  const SafetensorsFile file(written(bytes));
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(std::memcmp(file.data(*file.find("a")), values, sizeof values), 0);
  EXPECT_EQ(std::memcmp(file.data(*file.find("id")), &id, 8), 0);
  EXPECT_EQ(file.find("none")->shape, (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(file.metadata().at("about"), "test");
}

TEST(Safetensors, EveryBrokenRuleIsNamed) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"abc", "got 3 bytes"},
      {std::string(8, '\0') + "{}", "expected a header of 1 to 2 bytes, got 0"},
      {std::string(8, '\x7f') + "{}", "expected a header of"},
      {file_of(" {}", ""), "expected the header to begin with {"},
      {file_of("{} x", ""), "expected nothing behind the header's object"},
      {file_of("{\"a\":3}", ""), "a] expected an object, got 3"},
      {file_of("{\"a\":[]}", ""), "a] expected an object, got an array"},
      {file_of("{\"a\":{\"b\":{}}}", ""), "got \"b\""},
      {file_of("{\"a\":{\"shape\":{}}}", ""), "shape: expected an array, got an object"},
      {file_of("{\"a\":{\"shape\":[[]]}}", ""), "shape: expected a whole number of 0 to 2^48, got an array"},
      {file_of("{\"a\":{\"shape\":1}}", ""), "shape: expected an array, got 1"},
      {file_of("{\"a\":{\"dtype\":[]}}", ""), "dtype: expected a string, got an array"},
      {file_of("{\"a\":null}", ""), "a] expected an object, got null"},
      {file_of("{\"\xc0\x80\":{}}", ""), "expected JSON in UTF-8"},
      {file_of("{\"\xed\xa0\x80\":{}}", ""), "expected JSON in UTF-8"},
      {file_of("{\"\\u0000\":{}}", ""), "expected names without NUL"},
      {file_of("{\"" + std::string(5000, 'n') + "\":{}}", ""), "expected a name of at most 4096 bytes, got 5000"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", "1234"), "expected the key \"data_offsets\""},
      {file_of("{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", "1234"),
       "dtype: expected a known one"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", "1234"),
       "shape: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", "1234"),
       "shape: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[4194305,4194305,211106198978564],\"data_offsets\":[0,4]}}",
               "1234"),
       "expected at most 2^51 bytes"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[0,281474976710656,281474976710656],\"data_offsets\":[0,0]}}", ""),
       "expected at most 2^51 bytes"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[281474976710657],\"data_offsets\":[0,4]}}", "1234"),
       "shape: expected a whole number of 0 to 2^48, got 281474976710657"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", "1234"),
       "shape: expected a whole number of 0 to 2^48, got a string"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", "1234"),
       "expected at most 8 dimensions"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", "1234"), "expected two numbers"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", "1234"),
       "expected two numbers, got 1"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "1234"),
       "expected each key once"},
      {file_of("{\"__metadata__\":{},\"__metadata__\":{}}", ""), "expected each key once"},
      {file_of("{\"a\":{\"dtype\":\"C64\",\"shape\":[1],\"data_offsets\":[0,8]}}", "12345678"),
       "dtype: expected a known one, got \"C64\""},
      {file_of("[]", ""), "expected the header to begin with {"},
      {file_of("{", ""), "expected JSON in UTF-8"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", "1234"),
       "expected 8 bytes for F32 [2]"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", "1234"), "data_offsets"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", "12345678"),
       "expected to begin at byte 0, got 4"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
               "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
               "1234"),
       "b] expected to begin at byte 4, got 0"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "123"),
       "expected 4 bytes of tensors, got 3"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", "12345"),
       "expected 4 bytes of tensors, got 5"},
      {file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"I8\",\"shape\":[1],"
               "\"data_offsets\":[0,1]}}",
               "1"),
       "expected each key once"},
      {file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", "1"), "got \"x\""},
      {file_of("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "1234"), "expected the key \"dtype\""},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "1234"), "expected the key \"shape\""},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", "1234"),
       "shape: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0.5,4]}}", "1234"),
       "data_offsets: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-1,4]}}", "1234"),
       "data_offsets: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[\"0\",4]}}", "1234"),
       "data_offsets: expected a whole number"},
      {file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
               "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
               "123"),
       "b] expected to begin at byte 1, got 2"},
      {file_of("{\"__metadata__\":{\"a\":1}}", ""), "expected a string"},
      {file_of("{\"__metadata__\":[]}", ""), "expected an object of strings"}};
  for (const auto& [bytes, expected] : cases)
    EXPECT_NE(message(bytes).find(expected), std::string::npos) << message(bytes);
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const std::string b = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
  const std::string a = "{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}";
  const std::string none = "{\"dtype\":\"F16\",\"shape\":[0,3],\"data_offsets\":[4,4]}";  // shares an offset
  const std::string nan = "\xff\xff\xff\x7f";
  EXPECT_EQ(message(file_of("{}", "")), "no error");
  EXPECT_EQ(message(file_of("{}     ", "")), "no error");
  EXPECT_EQ(message(file_of("{\"a\":" + a + ",\"none\":" + none + ",\"b\":" + b + "}\n\t ", "1234" + nan)), "no error");
  EXPECT_EQ(message(file_of("{\"__metadata__\":{\"format\":\"pt\"}}", "")), "no error");
  for (const auto& [dtype, size] : std::vector<std::pair<std::string, int>>{{"BOOL", 1},
                                                                            {"U8", 1},
                                                                            {"I8", 1},
                                                                            {"F8_E4M3", 1},
                                                                            {"F8_E5M2", 1},
                                                                            {"U16", 2},
                                                                            {"I16", 2},
                                                                            {"F16", 2},
                                                                            {"BF16", 2},
                                                                            {"U32", 4},
                                                                            {"I32", 4},
                                                                            {"F32", 4},
                                                                            {"U64", 8},
                                                                            {"I64", 8},
                                                                            {"F64", 8}})
    EXPECT_EQ(message(file_of("{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":[1],\"data_offsets\":[0," +
                                  std::to_string(size) + "]}}",
                              std::string(static_cast<size_t>(size), 'x'))),
              "no error");
}

TEST(Safetensors, TypesThatNothingHereComputesWithAreRefusedByName) {
  for (const std::string dtype :
       {"C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "f32", ""})
    EXPECT_NE(message(file_of("{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":[8],\"data_offsets\":[0,8]}}", "12345678"))
                  .find("a] dtype: expected a known one, got \"" + dtype + "\""),
              std::string::npos)
        << dtype;
}

TEST(Safetensors, AHeaderAboveItsLimitIsRefusedInAFileThatHasRoomForIt) {
  const std::string path = written(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10));  // 100,000,001
  std::filesystem::resize_file(path, 100'000'100);
  try {
    SafetensorsFile file(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("expected a header of 1 to 100000000 bytes, got 100000001"),
              std::string::npos)
        << error.what();
  }
}

TEST(Safetensors, HeadersAreWrittenPaddedToEightBytes) {
  for (const std::string name : {"a", "ab", "abc", "abcdefghi"}) {
    const std::string bytes = to_safetensors({{name, "U8", {0}, nullptr, 0}}, {});
    EXPECT_EQ(bytes.size() % 8, 0u) << name;
  }
}

TEST(Safetensors, AHeaderOfManyTinyValuesIsRefusedAtTheFirst) {
  std::string many = "{\"a\":{\"shape\":[";
  for (int i = 0; i < 1'000'000; ++i) many += "0,";
  EXPECT_NE(message(file_of(many + "0]}}", "")).find("expected at most 8 dimensions"), std::string::npos);
}

TEST(Safetensors, FoldersAndMissingFilesAreRefused) {
  EXPECT_THROW(SafetensorsFile(testing::TempDir()), Error);
  EXPECT_THROW(SafetensorsFile("/nowhere.safetensors"), Error);
}

TEST(Safetensors, EveryTruncationIsDetected) {
  const float values[]{1, 2, 3};
  const std::string bytes = to_safetensors({{"a", "F32", {3}, values, sizeof values}}, {});
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_NE(message(bytes.substr(0, size)), "no error") << size;
}

}  // namespace
}  // namespace vlmamba::io
