#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <sstream>
#include <thread>

#include "tests/app/tiny_run.h"

namespace vlmamba {
namespace {

using test::TinyRun;
using testing::HasSubstr;

// The program with these lines as its standard input.
test::Outcome chat(const TinyRun& tiny, const std::string& lines, std::vector<std::string> more = {}) {
  const std::string file = (tiny.folder / "lines.txt").string();
  test::write(file, lines);
  const int before = ::dup(STDIN_FILENO), input = ::open(file.c_str(), O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  more.insert(more.begin(), {"chat", "--checkpoint", tiny.run(), "--max-new-tokens", "12"});
  auto outcome = test::vlmamba(more);
  ::dup2(before, STDIN_FILENO);
  ::close(before);
  ::close(input);
  return outcome;
}

std::string generate(const TinyRun& tiny, const std::string& prompt, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"generate", "--checkpoint", tiny.run(), "--max-new-tokens", "12", "--prompt", prompt});
  return test::vlmamba(more).out;
}

std::string without_space_around(const std::string& text) {
  const auto first = text.find_first_not_of(" \n"), last = text.find_last_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, last + 1 - first);
}

TEST(Chat, AnswersAsGenerateDoesForTheSameConversation) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string picture = tiny.data + "/images/1.png", other = tiny.data + "/images/4.png";
  const std::string first = generate(tiny, "is there a 3?", {"--image", picture});
  const auto alone = chat(tiny, "/image " + picture + "\nis there a 3?\n");
  ASSERT_EQ(alone.code, 0) << alone.err;
  EXPECT_EQ(alone.out, first);
  // A second question, about a second picture too, and one that draws.
  const std::string conversation =
      "<image>\nis there a 3? ASSISTANT: " + without_space_around(first) + "<|endoftext|>USER: <image>\nand here?";
  const std::string second = generate(tiny, conversation, {"--image", picture, "--image", other});
  const auto both = chat(tiny, "is there a 3?\n/image " + other + "\n\nand here?", {"--image", picture});
  ASSERT_EQ(both.code, 0) << both.err;
  EXPECT_EQ(both.out, first + second);
  const std::string drawn = generate(tiny, "what?", {"--temperature", "0.9", "--seed", "5"});
  const auto set = chat(tiny, "is there a 3?\n/set temperature=0.9\n/set seed=5\n/reset\nwhat?\n/quit\nmore?\n");
  EXPECT_THAT(set.out, testing::EndsWith(drawn));
}

TEST(Chat, InAPipeTheFirstErrorEnds) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  for (const auto& [line, code, message] :
       {std::tuple<std::string, int, std::string>{"/image nothing.png", 3, "nothing.png"},
        {"/image", 2, "expected a file"},
        {"/set temperature=-1", 2, "temperature"},
        {"/set temprature=1", 2, "temprature"},
        {"/what", 2, "expected /image"},
        {"/image " + tiny.data + "/images/1.png\n<image> and <image>?", 3, "expected 1 <image>"}}) {
    const auto outcome = chat(tiny, line + "\nis there a 3?\n");
    EXPECT_EQ(outcome.code, code) << line;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << line;
    EXPECT_EQ(outcome.out, "") << line;
  }
  EXPECT_THAT(chat(tiny, "/set\n/help\n").out, testing::AllOf(HasSubstr("temperature=0"), HasSubstr("/reset")));
  EXPECT_EQ(chat(tiny, "").code, 0);
}

TEST(Chat, AnInterruptEndsTheAnswerNotTheProgram) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string out = (tiny.folder / "out.txt").string();
  int to_child[2];
  ASSERT_EQ(::pipe(to_child), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(to_child[0], STDIN_FILENO);
    ::close(to_child[1]);
    if (::freopen(out.c_str(), "w", stdout) == nullptr) ::_exit(126);
    ::execl(VLMAMBA_PROGRAM, "vlmamba", "chat", "--checkpoint", tiny.run().c_str(), "--temperature", "1",
            "--max-new-tokens", "1000000000", nullptr);
    ::_exit(127);
  }
  ::close(to_child[0]);
  const auto say = [&](const std::string& line) {
    ASSERT_EQ(::write(to_child[1], line.data(), line.size()), static_cast<ssize_t>(line.size()));
  };
  const auto size = [&] { return test::fs::exists(out) ? test::fs::file_size(out) : 0; };
  const auto wait_for = [&](const auto& reached) {
    for (int i = 0; i < 3000 && !reached(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return reached();
  };
  // A random model hardly ends by itself before so many words.
  say("go on\n/set max_new_tokens=4\nand now?\n");
  EXPECT_TRUE(wait_for([&] { return size() > 200; }));
  ::kill(child, SIGINT);
  ::close(to_child[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace vlmamba
