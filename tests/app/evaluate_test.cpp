#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/app/tiny_run.h"
#include "vlmamba/core/rng.h"
#include "vlmamba/io/images/decode.h"
#include "vlmamba/io/json.h"

// How an evaluation is asked: in what company, by how many processes, with what interruptions. The answers are the
// same.
namespace vlmamba {
namespace {

using test::TinyRun;
using testing::HasSubstr;
using testing::Not;
namespace fs = test::fs;

// A trained run with `count` questions about six pictures or none, in random order.
struct Evaluation : TinyRun {
  explicit Evaluation(int count = 40) {
    Rng rng(5, RngPurpose::kInit);
    std::string questions;
    for (int i = 0; i < count; ++i) {
      const uint64_t picture = rng.below(7);
      questions += "{\"question_id\": " + std::to_string(i) + ", " +
                   (picture == 6 ? "" : "\"image\": \"images/" + std::to_string(picture) + ".png\", ") +
                   "\"text\": \"is there a " + std::string(rng.below(12), 'x') + std::to_string(i) +
                   "?\", \"answer\": \"yes\"}\n";
    }
    test::write(data + "/many.jsonl", questions);
    EXPECT_EQ(train().code, 0);
  }
  std::vector<std::string> command(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{
        "evaluate",
        "--checkpoint",
        run(),
        "--output",
        run(output),
        "--set",
        "data_root=" + data,
        "--set",
        R"(eval.tasks=[{"name": "many", "questions": "many.jsonl", "max_new_tokens": 12}])"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  test::Outcome evaluate(const std::string& output, const std::vector<std::string>& more = {}) const {
    return test::vlmamba(command(output, more));
  }
  std::string answers(const std::string& output) const { return test::read(run(output) + "/many/answers.jsonl"); }
  std::string partial(const std::string& output, const std::string& shard = "0-of-1") const {
    return run(output) + "/many/answers.partial-" + shard + ".jsonl";
  }
};

// Starts the program as a process of its own, and ends it by `signal` once it has answered a little. Its status.
int interrupt(const std::vector<std::string>& command, const std::string& partial, int signal) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.begin(), VLMAMBA_PROGRAM);
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(126);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  for (int i = 0; i < 3000 && (!fs::exists(partial) || fs::file_size(partial) < 1500); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(Evaluate, AnswersDoNotDependOnTheirCompany) {
  const Evaluation tiny;
  ASSERT_EQ(tiny.evaluate("alone", {"--set", "eval.batch=1", "--set", "eval.prefix_memory_mib=0"}).code, 0);
  ASSERT_EQ(tiny.evaluate("together", {"--set", "eval.batch=13"}).code, 0);
  EXPECT_EQ(tiny.answers("alone"), tiny.answers("together"));
  const std::string drawn = "eval.sampling.temperature=0.8";
  ASSERT_EQ(tiny.evaluate("drawn", {"--set", "eval.batch=1", "--set", drawn}).code, 0);
  ASSERT_EQ(tiny.evaluate("drawn_together", {"--set", drawn}).code, 0);
  EXPECT_EQ(tiny.answers("drawn"), tiny.answers("drawn_together"));
  EXPECT_NE(tiny.answers("drawn"), tiny.answers("alone"));
  // The command line asks the same way.
  const auto first =
      io::parse_json(tiny.answers("alone").substr(0, tiny.answers("alone").find('\n')), "", ExitCode::kData);
  const auto line =
      io::parse_json(test::read(tiny.data + "/many.jsonl").substr(0, test::read(tiny.data + "/many.jsonl").find('\n')),
                     "", ExitCode::kData);
  std::vector<std::string> generate{
      "generate", "--checkpoint", tiny.run(), "--max-new-tokens", "12", "--prompt", first.find("prompt")->as_string()};
  if (const auto* image = line.find("image"))
    generate.insert(generate.end(), {"--image", tiny.data + "/" + image->as_string()});
  EXPECT_EQ(test::vlmamba(generate).out, first.find("text")->as_string() + "\n");
}

TEST(Evaluate, ProcessesShareTheQuestions) {
  const Evaluation tiny;
  ASSERT_EQ(tiny.evaluate("one").code, 0);
  for (const std::string shard : {"2/3", "0/3"}) {
    const auto outcome = tiny.evaluate("three", {"--shard", shard});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("answers of the others are missing"));
    EXPECT_FALSE(fs::exists(tiny.run("three") + "/many/answers.jsonl"));
  }
  EXPECT_EQ(tiny.evaluate("three", {"--shard", "1/3"}).code, 0);
  EXPECT_EQ(tiny.answers("one"), tiny.answers("three"));
  EXPECT_TRUE(fs::exists(tiny.run("three") + "/many/results.json"));
  EXPECT_FALSE(fs::exists(tiny.partial("three", "2-of-3")));
  // More processes than questions, and one that comes late.
  for (int rank = 0; rank < 50; ++rank)
    ASSERT_EQ(tiny.evaluate("fifty", {"--shard", std::to_string(rank) + "/50"}).code, 0);
  EXPECT_EQ(tiny.answers("one"), tiny.answers("fifty"));
  EXPECT_THAT(tiny.evaluate("fifty", {"--shard", "3/50"}).err, HasSubstr("none is asked again"));
  // As torchrun says it.
  for (const char* rank : {"0", "1"}) {
    ::setenv("RANK", rank, 1);
    ::setenv("WORLD_SIZE", "2", 1);
    EXPECT_EQ(tiny.evaluate("launched").code, 0);
  }
  ::unsetenv("RANK");
  ::unsetenv("WORLD_SIZE");
  EXPECT_EQ(tiny.answers("one"), tiny.answers("launched"));
  for (const std::string wrong : {"3/3", "-1/3", "1", "a/b", "1/0", "1/3x"})
    EXPECT_EQ(tiny.evaluate("x", {"--shard", wrong}).code, 2) << wrong;
}

TEST(Evaluate, AnInterruptedOneGoesOnWhereItStopped) {
  const Evaluation tiny(400);
  ASSERT_EQ(tiny.evaluate("whole").code, 0);
  for (const int signal : {SIGTERM, SIGKILL}) {
    const std::string output = "stopped" + std::to_string(signal);
    const int status = interrupt(tiny.command(output), tiny.partial(output), signal);
    if (signal == SIGTERM) {
      ASSERT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), 75);
    }
    ASSERT_FALSE(fs::exists(tiny.run(output) + "/many/answers.jsonl"));
    // As if the last line had not reached the disk whole.
    test::write(tiny.partial(output), test::read(tiny.partial(output)) + "{\"question\": \"ab");
    const auto outcome = tiny.evaluate(output);
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("answers are there from before"));
    EXPECT_EQ(tiny.answers(output), tiny.answers("whole"));
    EXPECT_FALSE(fs::exists(tiny.partial(output)));
  }
}

TEST(Evaluate, AnswersOfAnotherConfigAreNotUsed) {
  const Evaluation tiny(400);
  const int status = interrupt(tiny.command("stopped"), tiny.partial("stopped"), SIGTERM);
  ASSERT_EQ(WEXITSTATUS(status), 75);
  const std::vector<std::string> other{"--set", "eval.sampling.temperature=0.5"};
  const auto outcome = tiny.evaluate("stopped", other);
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("holds answers of another checkpoint, config or version"));
  ASSERT_EQ(tiny.evaluate("fresh", other).code, 0);
  EXPECT_EQ(tiny.answers("stopped"), tiny.answers("fresh"));
}

TEST(Evaluate, ACompleteOneIsOnlyScoredAgain) {
  const Evaluation tiny;
  ASSERT_EQ(tiny.evaluate("eval").code, 0);
  const std::string answers = tiny.answers("eval");
  EXPECT_THAT(tiny.evaluate("eval").err, HasSubstr("none is asked again"));
  EXPECT_EQ(tiny.answers("eval"), answers);
  const std::string questions = test::read(tiny.data + "/many.jsonl");
  test::write(tiny.data + "/many.jsonl", questions.substr(questions.find('\n') + 1));
  EXPECT_THAT(tiny.evaluate("eval").err, Not(HasSubstr("none is asked again")));
  EXPECT_NE(tiny.answers("eval"), answers);
}

TEST(Evaluate, ResultsNameWhatTheyComeFrom) {
  const Evaluation tiny(3);
  ASSERT_EQ(tiny.evaluate("eval").code, 0);
  const auto results = io::read_json(tiny.run("eval") + "/many/results.json", ExitCode::kData);
  for (const char* key :
       {"task", "score", "metrics", "counts", "seconds", "config_sha256", "checkpoint_sha256", "command"})
    EXPECT_NE(results.find(key), nullptr) << key;
}

TEST(Evaluate, InputsAreKept) {
  const Evaluation tiny(3);
  ASSERT_EQ(tiny.evaluate("eval", {"--save-inputs"}).code, 0);
  const auto questions = test::read(tiny.data + "/many.jsonl");
  for (int i = 0; i < 3; ++i) {
    const auto input = io::read_json(tiny.run("eval") + "/many/inputs/" + std::to_string(i) + ".json", ExitCode::kData);
    EXPECT_THAT(input.find("prompt")->as_string(), HasSubstr("USER: "));
    EXPECT_THAT(input.find("prompt")->as_string(), HasSubstr(std::to_string(i) + "? ASSISTANT:"));
    EXPECT_FALSE(input.find("ids")->items().empty());
    for (const auto& picture : input.find("pictures")->items()) {
      // 8x8 pixels are shown as they are.
      const auto shown = io::read_image(tiny.run("eval") + "/many/inputs/" + picture.as_string());
      bool found = false;
      for (int j = 0; j < 6; ++j)
        found |= io::read_image(tiny.data + "/images/" + std::to_string(j) + ".png").rgb == shown.rgb;
      EXPECT_TRUE(found);
    }
  }
}

TEST(Evaluate, AConfigOfTheSectionEvalAloneIsEnough) {
  const Evaluation tiny(3);
  const std::string config = tiny.run("eval.json");
  test::write(config, "{\"data_root\": \"" + tiny.data +
                          R"(", "eval": {"prompt": {"system": "Be brief."},
                             "tasks": [{"name": "many", "questions": "many.jsonl", "max_new_tokens": 2}]}})");
  const auto outcome = test::vlmamba(
      {"evaluate", "--checkpoint", tiny.run(), "--config", config, "--output", tiny.run("eval"), "--save-inputs"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(test::read(tiny.run("eval") + "/many/inputs/0.json"), HasSubstr("Be brief. USER: "));
  test::write(config, R"({"eval": {"tasks": [{"name": "many"}]}})");
  EXPECT_EQ(test::vlmamba({"evaluate", "--checkpoint", tiny.run(), "--config", config}).code, 2);
}

}  // namespace
}  // namespace vlmamba
