#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "vlmamba/io/base64.h"
#include "vlmamba/io/json_stream.h"
#include "vlmamba/io/spreadsheet.h"
#include "vlmamba/io/tsv.h"
#include "vlmamba/io/weights/zip.h"

namespace vlmamba::io {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <typename Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::vector<std::string> elements(const std::string& text, const std::string& key = "") {
  std::vector<std::string> found;
  for_each_element(text, key, "f", ExitCode::kData, [&](const Json& value, int64_t line) {
    found.push_back(std::to_string(line) + ":" + value.to_string());
  });
  return found;
}

TEST(JsonStream, GivesElementsWithTheirLines) {
  EXPECT_THAT(elements("\xEF\xBB\xBF [1,\n\n {\"a\": \"]}\\\"\"}, []\n]"),
              ElementsAre("1:1", "3:{\"a\": \"]}\\\"\"}", "3:[]"));
  EXPECT_THAT(elements("{\"x\": {\"data\": [9]}, \"data\":\n[true, null], \"y\": 1}", "data"),
              ElementsAre("2:true", "2:null"));
  EXPECT_TRUE(elements(" [ ] ").empty());
}

TEST(JsonStream, NamesTheLineOfWhatIsWrong) {
  EXPECT_THAT(message_of([] { elements("[1,\n{\"a\": tru}]"); }), HasSubstr("[f:2:"));
  EXPECT_THAT(message_of([] { elements("[1,\n2"); }), HasSubstr("[f:2:"));
  EXPECT_THAT(message_of([] { elements("[1,\n2]]"); }), HasSubstr("[f:2:"));
  EXPECT_THAT(message_of([] { elements("[1,,2]"); }), HasSubstr("[f:1:4]"));
  EXPECT_THAT(message_of([] { elements("[\"a]"); }), HasSubstr("[f:1:"));
  EXPECT_THAT(message_of([] { elements("{}"); }), HasSubstr("expected an array, got an object"));
  EXPECT_THAT(message_of([] { elements("{\"a\": [1]}", "data"); }), HasSubstr("expected the key \"data\", got none"));
  EXPECT_THAT(message_of([] { elements("{\"data\": 1}", "data"); }), HasSubstr("data: expected an array"));
  EXPECT_THAT(message_of([] { elements(""); }), HasSubstr("[f:1:1]"));
}

TEST(JsonStream, GivesMembersAndLines) {
  std::string members;
  for_each_member(
      "{\"a\\n\": 1, \"b\": [2]}", "f", ExitCode::kData,
      [&](const std::string& key, const Json& value, int64_t) { members += key + value.to_string() + ";"; });
  EXPECT_EQ(members, "a\n1;b[2];");
  std::string lines;
  for_each_line("1\r\n\n  \n\"x\"", "f", ExitCode::kData,
                [&](const Json& value, int64_t line) { lines += std::to_string(line) + value.to_string() + ";"; });
  EXPECT_EQ(lines, "11;4\"x\";");
  EXPECT_THAT(message_of([] { for_each_line("1\n{", "f", ExitCode::kData, [](const Json&, int64_t) {}); }),
              HasSubstr("[f:2:"));
}

TEST(Tsv, IsReadAsPandasReadsIt) {
  const auto table = parse_tsv(
      "\xEF\xBB\xBF"
      "a\tb\r\n\"x\"\"\t\ny\"z\tq\"r\"\n\n1\r2\t",
      "f", ExitCode::kData);
  EXPECT_THAT(table.columns, ElementsAre("a", "b"));
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_THAT(table.rows[0].fields, ElementsAre("x\"\t\nyz", "q\"r\""));
  EXPECT_THAT(table.rows[1].fields, ElementsAre("1", ""));
  EXPECT_THAT(table.rows[2].fields, ElementsAre("2", ""));
  EXPECT_EQ(table.rows[2].line, 6);
}

TEST(Tsv, NamesTheLineOfWhatIsWrong) {
  EXPECT_THAT(message_of([] { parse_tsv("a\tb\n1\t2\t3\n", "f", ExitCode::kData); }),
              HasSubstr("[f:2] expected 2 fields, got 3"));
  EXPECT_THAT(message_of([] { parse_tsv("a\n\"1", "f", ExitCode::kData); }),
              HasSubstr("[f:2] expected a closing quote"));
  EXPECT_THAT(message_of([] { parse_tsv("", "f", ExitCode::kData); }), HasSubstr("expected a header"));
}

TEST(Base64, IsRead) {
  EXPECT_EQ(decode_base64("TWFu\nTQ=="), "ManM");
  EXPECT_EQ(decode_base64("/+8="), "\xFF\xEF");
  EXPECT_EQ(decode_base64("a b"), std::nullopt);
  EXPECT_EQ(encode_base64("Man"), "TWFu");
  EXPECT_EQ(encode_base64("Ma"), "TWE=");
  EXPECT_EQ(encode_base64("\xFF\xEF"), "/+8=");
  EXPECT_EQ(encode_base64(""), "");
}

TEST(Spreadsheet, IsAZipWithTheRightSums) {
  const std::string bytes = to_xlsx({{"index", "text"},
                                     {"7",
                                      "a<b> & \"c\"\n\x01"
                                      "d"},
                                     {"", " e"}},
                                    {"index"});
  const auto entries = read_zip_directory(bytes, "sheet");
  ASSERT_EQ(entries.size(), 5u);
  for (const auto& entry : entries) check_crc(bytes, entry, "sheet");
  const auto& sheet = entries.back();
  EXPECT_EQ(sheet.name, "xl/worksheets/sheet1.xml");
  EXPECT_THAT(bytes.substr(sheet.begin, sheet.end - sheet.begin),
              testing::AllOf(HasSubstr("<c r=\"A2\"><v>7</v></c>"), HasSubstr(">a&lt;b&gt; &amp; \"c\"\nd</t>"),
                             HasSubstr("<c r=\"B3\" t=\"inlineStr\"><is><t xml:space=\"preserve\"> e</t></is></c>")));
}

}  // namespace
}  // namespace vlmamba::io
