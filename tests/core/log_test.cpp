#include "vlmamba/core/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using testing::HasSubstr;

// Files can grow no further than this many bytes, as on a full disk.
class SmallDisk {
 public:
  explicit SmallDisk(rlim_t bytes) : before_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &limit_);
    const rlimit small{bytes, limit_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~SmallDisk() {
    ::setrlimit(RLIMIT_FSIZE, &limit_);
    std::signal(SIGXFSZ, before_);
  }

 private:
  rlimit limit_{};
  void (*before_)(int);
};

TEST(Log, LinesThatAFullDiskRefusesComeLater) {
  const std::string path = testing::TempDir() + "/vlmamba-log.txt";
  std::filesystem::remove(path);
  log::set_file(path);
  log::info("one");
  {
    const SmallDisk disk(std::filesystem::file_size(path) + 5);
    for (const char* line : {"two", "three"}) EXPECT_NO_THROW(log::info(line));
  }
  log::warn("four");
  log::set_file("");
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  EXPECT_THAT(text.str(),
              testing::ContainsRegex("info: one\n[^\n]*info: two\n[^\n]*info: three\n[^\n]*warning: four\n$"));
}

TEST(Log, AFailingDiskIsToldOnce) {
  log::set_file("/dev/full");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) log::info("line");
  log::set_file("");
  const std::string err = testing::internal::GetCapturedStderr();
  EXPECT_THAT(err, HasSubstr("warning: [/dev/full] expected to append a line, got: No space left on device"));
  EXPECT_EQ(err.find("/dev/full"), err.rfind("/dev/full"));
}

TEST(Log, AFileThatCannotBeOpenedIsAnError) {
  try {
    log::set_file(testing::TempDir() + "/no/such/folder/log.txt");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_THAT(error.what(), HasSubstr("expected to open the log, got: No such file or directory"));
  }
}

}  // namespace
}  // namespace vlmamba
