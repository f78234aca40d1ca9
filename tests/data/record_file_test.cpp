#include "vlmamba/data/record_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string record(const std::string& id, const std::string& question, const std::string& more = "") {
  return R"({"id": ")" + id + R"(", )" + more + R"("conversations": [{"from": "human", "value": ")" + question +
         R"("}, {"from": "gpt", "value": "yes"}]})";
}

class RecordFiles : public testing::Test {
 protected:
  RecordFiles() : folder_(fs::path(testing::TempDir()) / "vlmamba-record-file") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~RecordFiles() override { fs::remove_all(folder_); }

  std::string write(const std::string& text, const std::string& name = "r.json") const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return (folder_ / name).string();
  }
  std::string message(const std::function<void()>& what) const {
    try {
      what();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      return error.what();
    }
    return "";
  }

  fs::path folder_;
};

TEST_F(RecordFiles, AnyRecordCanBeReadInAnyLayoutOfTheFile) {
  const std::vector<std::string> records{record("a", "one [two] \\\"three\\\" {"), record("b", "café, ]"),
                                         record("c", "<image>\\nwhat?", R"("image": "c.png", )")};
  const std::string tight = records[0] + "," + records[1] + "," + records[2];
  const std::string loose = records[0] + "\r\n ,\t\n\n" + records[1] + ",\n" + records[2];
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{
           {"r.json", '[' + tight + "]"},
           {"r.json", "\xEF\xBB\xBF \n[\n" + loose + "\n]\n"},
           {"r.jsonl", records[0] + "\n\n" + records[1] + "\r\n" + records[2]},
           {"r.jsonl", "\xEF\xBB\xBF" + records[0] + "\n" + records[1] + "\n" + records[2] + "\n"}}) {
    const RecordFile file(write(text, name));
    ASSERT_EQ(file.size(), 3) << text;
    EXPECT_EQ(file.read(2).images, std::vector<std::string>{"c.png"});
    EXPECT_EQ(file.read(0).turns[0].text, "one [two] \"three\" {");
    EXPECT_EQ(file.read(1).id, "b");
    EXPECT_EQ(file.entry(0).words, 5u);
    EXPECT_EQ(file.entry(0).pictures, 0);
    EXPECT_EQ(file.entry(2).words, 3u);
    EXPECT_EQ(file.entry(2).pictures, 1);
  }
  EXPECT_EQ(RecordFile(write("[]")).size(), 0);
  EXPECT_EQ(RecordFile(write("", "empty.jsonl")).size(), 0);
}

TEST_F(RecordFiles, WordsAreThoseOfPythonsSplit) {
  for (const auto& [text, words] :
       std::vector<std::pair<std::string, int64_t>>{{"", 0},
                                                    {" \t\n", 0},
                                                    {"a", 1},
                                                    {" a  b\r\nc ", 3},
                                                    {"a\xC2\xA0"
                                                     "b\xE3\x80\x80"
                                                     "c\xE2\x80\x89"
                                                     "d\x1f"
                                                     "e",
                                                     5},
                                                    {"\xC3\xA9t\xC3\xA9 \xE6\x9D\xB1\xE4\xBA\xAC", 2},
                                                    {"a\xE2\x80\x8B"
                                                     "b",
                                                     1}})  // a space of no width is none
    EXPECT_EQ(count_words(text), words) << text;
}

TEST_F(RecordFiles, MalformedRecordsAreMarkedAndNamedWhenRead) {
  const std::string good = record("good", "q"), role = R"({"id": 7, "conversations": [{"from": "x", "value": "y"}]})";
  const RecordFile file(write('[' + good + ", " + role + ", {\"id\": tru}, " + good + "]"));
  ASSERT_EQ(file.size(), 4);
  EXPECT_THAT((std::vector<int>{file.entry(0).malformed, file.entry(1).malformed, file.entry(2).malformed,
                                file.entry(3).malformed}),
              testing::ElementsAre(0, 1, 1, 0));
  const std::string byte = std::to_string(1 + good.size() + 2);
  EXPECT_THAT(message([&] { file.read(1); }),
              HasSubstr("r.json: byte " + byte + ", record 1, id 7] from: expected human or gpt, got \"x\""));
  EXPECT_THAT(message([&] { file.read(2); }), HasSubstr(", record 2:1:"));
  EXPECT_EQ(file.read(3).id, "good");
}

TEST_F(RecordFiles, AFileThatIsNoSetIsRefusedAndNamed) {
  const std::string good = record("good", "q");
  for (const auto& [text, expected] :
       std::vector<std::pair<std::string, std::string>>{{"", "expected JSON"},
                                                        {"{}", "expected an array of records, got an object"},
                                                        {"7", "expected JSON"},
                                                        {'[' + good, "r.json:1:"},
                                                        {'[' + good.substr(0, good.size() - 4), "r.json:1:"},
                                                        {'[' + good + "] []", "r.json:1:"},
                                                        {'[' + good + "," + good, "r.json:1:"},
                                                        {'[' + good + " " + good + "]", "r.json:1:"},
                                                        {'[' + good + ",]", "r.json:1:"},
                                                        {std::string("[]\0", 3), "expected JSON"}})
    EXPECT_THAT(message([&] { RecordFile file(write(text)); }), HasSubstr(expected)) << text;
  EXPECT_THAT(message([&] { RecordFile file(folder_.string()); }), HasSubstr("expected a regular file"));
  EXPECT_THAT(message([&] { RecordFile file((folder_ / "none.json").string()); }), HasSubstr("none.json"));
}

TEST_F(RecordFiles, ATruncatedLargeFileIsRefusedWithoutReadingItAsATree) {
  std::string text = "[";
  while (text.size() < (17u << 20)) text += record("x", std::string(100'000, 'w')) + ",\n";
  const size_t last = text.size();
  EXPECT_THAT(message([&] { RecordFile file(write(text + "{\"id\": \"cut")); }),
              HasSubstr("got the end of the file; the last value starts at byte "));
  EXPECT_THAT(message([&] { RecordFile file(write(text.substr(0, last - 2) + " 7 8]")); }), HasSubstr("r.json: byte "));
}

TEST_F(RecordFiles, TheIndexIsKeptAndMadeAnewWhenItDoesNotFit) {
  const std::string cache = (folder_ / "index" / "r.index").string();
  const std::string path = write('[' + record("a", "q") + "]");
  EXPECT_EQ(RecordFile(path, cache).size(), 1);
  ASSERT_TRUE(fs::exists(cache));
  const std::string kept = io::read_file(cache, ExitCode::kIo);
  const auto time = fs::last_write_time(path);
  // What the cache says is believed while path, size and time agree.
  std::string other = record("a", "q");
  std::replace(other.begin(), other.end(), 'q', 'r');
  write('[' + other + "]");
  fs::last_write_time(path, time);
  EXPECT_EQ(RecordFile(path, cache).read(0).turns[0].text, "r");
  EXPECT_EQ(io::read_file(cache, ExitCode::kIo), kept);
  // A changed file, and every kind of damage, is seen.
  write('[' + record("a", "q") + "," + record("b", "q") + "]");
  EXPECT_EQ(RecordFile(path, cache).size(), 2);
  const std::string whole = io::read_file(cache, ExitCode::kIo);
  EXPECT_NE(whole, kept);
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 1);
    for (const auto& bytes : {flipped, whole.substr(0, at)}) {
      std::ofstream(cache, std::ios::binary) << bytes;
      EXPECT_EQ(RecordFile(path, cache).size(), 2);
      EXPECT_EQ(io::read_file(cache, ExitCode::kIo), whole);
    }
  }
  fs::remove(cache);
  fs::create_directories(cache);  // cannot be read or written: a warning
  EXPECT_EQ(RecordFile(path, cache).size(), 2);
}

TEST_F(RecordFiles, AFileThatIsCutWhileItIsReadIsAnError) {
  const std::string path = write('[' + record("a", "q") + "," + record("b", "q") + "]");
  const RecordFile file(path);
  fs::resize_file(path, 20);
  EXPECT_THAT(message([&] { file.read(1); }), HasSubstr("the end of the file: it was cut"));
}

}  // namespace
}  // namespace vlmamba
