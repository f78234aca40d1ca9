#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/app/tiny_run.h"
#include "tests/io/faulty_disk.h"
#include "vlmamba/io/checkpoint_folder.h"

// Long: a run stopped everywhere, by everything, and continued. Each test prints how much it tried.
namespace vlmamba {
namespace {

namespace fs = std::filesystem;
using test::read;
using test::TinyRun;

// What must be the same: weights, moments, state and the log of both stages.
void expect_same_run(const std::string& run, const std::string& whole, const std::string& last) {
  for (const std::string file : {"model.safetensors", "optimizer.safetensors", "state.json"})
    ASSERT_TRUE(read(run + "/instruct/checkpoints/" + last + "/" + file) ==
                read(whole + "/instruct/checkpoints/" + last + "/" + file))
        << run << " " << file;
  for (const std::string stage : {"align", "instruct"})
    ASSERT_EQ(read(run + "/" + stage + "/metrics.jsonl"), read(whole + "/" + stage + "/metrics.jsonl")) << run;
}

// A copy of a run as it was when it was killed after this step; 0: before the first checkpoint of the stage.
void cut_run(const std::string& from, const std::string& to, const std::string& stage, int step) {
  fs::copy(from, to, fs::copy_options::recursive);
  if (stage == "align") fs::remove_all(to + "/instruct");
  for (const auto& entry : fs::directory_iterator(to + "/" + stage + "/checkpoints")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step_") && std::stoi(name.substr(5)) > step) fs::remove_all(entry.path());
  }
}

// 12 records, 4 a step: 3 steps an epoch. Stopped at 0, 1, inside epoch 0, at its end, behind it, inside epoch 1, at
// the last step; one and four micro-batches; no, one and four loader threads; both stages.
TEST(FaultMatrix, ResumingIsExactAtEveryKindOfPosition) {
  const TinyRun tiny;
  int cells = 0;
  for (const std::string micro_batch : {"4", "1"})
    for (const std::string threads : {"0", "1", "4"}) {
      std::vector<std::string> settings;
      for (const std::string stage : {"align", "instruct"})
        for (const std::string& setting :
             {std::string("batch.global_batch=4"), "batch.micro_batch=" + micro_batch,
              "batch.loader_threads=" + threads, std::string("steps=7"), std::string("data.validation_records=0")})
          settings.push_back("stages." + stage + "." + setting);
      const std::string kind = "m" + micro_batch + "t" + threads, whole = tiny.run(kind);
      const auto outcome = tiny.train(settings, kind);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      for (const std::string stage : {"align", "instruct"})
        for (const int step : {0, 1, 2, 3, 4, 5, 7}) {
          const std::string run = tiny.run("cut");
          cut_run(whole, run, stage, step);
          const auto resumed = test::vlmamba({"train", "--resume", run});
          ASSERT_EQ(resumed.code, 0) << resumed.err;
          expect_same_run(run, whole, "step_00000007");
          fs::remove_all(run);
          ++cells;
        }
    }
  std::printf("resume matrix: %d of %d cells bit for bit\n", cells, cells);
}

// The n-th call of a save in the middle of training fails, for every n: training goes on and ends the same.
TEST(FaultMatrix, AnyFailureOfASaveCostsThatCheckpointAlone) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  int injected = 0;
  for (const int number : {ENOSPC, EIO})
    for (int call = 1;; ++call) {
      bool failed = false;
      {
        const test::FaultyDisk disk(call, number, true, "instruct/checkpoints/step_00000002");
        const auto outcome = tiny.train({}, "run");
        ASSERT_EQ(outcome.code, 0) << outcome.err;
        failed = disk.failed();
      }
      expect_same_run(tiny.run("run"), tiny.run("whole"), "step_00000005");
      EXPECT_EQ(test::vlmamba({"inspect", tiny.run("run")}).code, 0);
      fs::remove_all(tiny.run("run"));
      if (!failed) break;
      ++injected;
    }
  EXPECT_GT(injected, 40);
  std::printf("failures injected into a save of a run: %d, runs harmed: 0\n", injected);
}

pid_t start(const std::vector<std::string>& arguments) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  std::vector<std::string> own = arguments;
  std::vector<char*> argv;
  for (auto& argument : own) argv.push_back(argument.data());
  argv.push_back(nullptr);
  if (::freopen("/dev/null", "w", stderr) == nullptr) ::_exit(126);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

// The machine stops before any call of a save in the middle of a run, with and without what was not synced.
TEST(FaultMatrix, ARunThatStopsAnywhereInASaveGoesOnExactly) {
  const TinyRun tiny;
  std::vector<std::string> left;
  {
    test::StoppingDisk disk(tiny.run("whole"), tiny.run("left"), "instruct/checkpoints/step_00000002");
    ASSERT_EQ(tiny.train({}, "whole").code, 0);
    left = disk.left();
  }
  ASSERT_GT(left.size(), 40u);
  for (const auto& run : left) {
    const auto resumed = test::vlmamba({"train", "--resume", run});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_same_run(run, tiny.run("whole"), "step_00000005");
    for (const auto& entry : fs::recursive_directory_iterator(run))
      ASSERT_THAT(entry.path().string(), testing::Not(testing::ContainsRegex("unfinished|\\.tmp-")));
    fs::remove_all(run);
  }
  std::printf("stops inside of a save of a run: %zu, runs that went on exactly: %zu\n", left.size(), left.size());
}

// Every file of a run's newest checkpoint, and of what it refers to, cut, emptied, removed, replaced, or changed.
TEST(FaultMatrix, AnyDamageOfACheckpointIsFoundAndTheOneBeforeTaken) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train({"stages.instruct.trainable=[\"connector\"]", "stages.align.steps=1"}).code, 0);
  const io::CheckpointFolder checkpoints(tiny.run() + "/instruct/checkpoints");
  const std::string newest = checkpoints.step_path(5);
  std::mt19937 random(3);
  int tried = 0;
  std::string damaged;
  const auto expect_found = [&](std::optional<int64_t> instead) {
    std::string why;
    const auto found = checkpoints.newest([&](const std::string& text) { why += text; });
    ASSERT_EQ(found, instead) << damaged;
    ASSERT_THAT(why, testing::HasSubstr(damaged));
    ++tried;
  };
  for (const auto& entry : fs::directory_iterator(newest)) {
    damaged = entry.path().string();
    const std::string bytes = read(damaged);
    const auto size = bytes.size();
    for (size_t length = 0; length + 1 < size; length += size < 4096 && length < 4096 ? 64 : 512) {
      test::write(damaged, bytes.substr(0, length));
      expect_found(4);
    }
    if (!damaged.ends_with("manifest.json"))  // where blanks mean nothing
      for (int i = 0; i < 150; ++i) {
        std::string changed = bytes;
        changed[random() % size] ^= static_cast<char>(1 << random() % 8);
        test::write(damaged, changed);
        expect_found(4);
      }
    std::string zeroed = bytes;
    std::fill_n(zeroed.begin(), std::min<size_t>(size, 4096), '\0');
    test::write(damaged, zeroed);
    expect_found(4);
    fs::remove(damaged);
    expect_found(4);
    fs::create_directory(damaged);
    expect_found(4);
    fs::remove(damaged);
    test::write(damaged, bytes);
  }
  for (const auto& entry : fs::directory_iterator(tiny.run() + "/parts")) {  // of all checkpoints alike
    damaged = entry.path().string();
    const std::string bytes = read(damaged);
    test::write(damaged, bytes.substr(0, bytes.size() - 1));
    expect_found(std::nullopt);
    test::write(damaged, bytes);
  }
  EXPECT_EQ(checkpoints.newest([](const std::string&) {}), 5);
  std::printf("damages of a run's checkpoint: %d, found and named: %d\n", tried, tried);
}

// A file system of its own that is smaller than one checkpoint, and than two.
TEST(FaultMatrix, AFullDiskCostsNoCheckpointThatIsThere) {
  const TinyRun tiny;
  const std::string disk = (tiny.folder / "disk").string(), kept = (tiny.folder / "kept").string();
  fs::create_directories(disk);
  const auto run = [&](int kib, const std::string& log) {
    const std::string script = (tiny.folder / "script.sh").string();
    const std::string text = "mount -t tmpfs -o size=" + std::to_string(kib) + "k none '" + disk + "' || exit 126; '" +
                             VLMAMBA_PROGRAM + "' train --config '" + tiny.config + "' --set output_dir='" + disk +
                             "/run' --set data_root='" + tiny.data + "' 2>'" + log + "'; code=$?; cp -r '" + disk +
                             "/run' '" + kept + "'; exit $code";
    fs::remove_all(kept);
    test::write(script, text);
    const int status = std::system(("unshare -rm sh '" + script + "'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  ASSERT_EQ(tiny.train({}, "whole").code, 0);
  const auto kib = [](const fs::path& folder, const std::string& without) {  // in pages
    uintmax_t sum = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder))
      if (entry.is_regular_file() && (without.empty() || entry.path().string().find(without) == std::string::npos))
        sum += (entry.file_size() + 4095) / 4096 * 4;
    return sum;
  };
  const uintmax_t one = kib(tiny.run("whole") + "/align/checkpoints/step_00000001", ""), slack = one / 4;
  const uintmax_t others = kib(tiny.run("whole") + "/parts", "") + kib(tiny.run("whole") + "/align", "/checkpoints/") +
                           kib(tiny.run("whole") + "/index", "") + 16;  // config.json, log.txt
  const std::string log = (tiny.folder / "log.txt").string();
  for (const auto& [room, checkpoints] : {std::pair{slack, 0}, std::pair{one + slack, 1}}) {
    const int code = run(static_cast<int>(others + room), log);
    if (code == 126 || code == 1) GTEST_SKIP() << "no file system of its own can be made here (unshare, mount)";
    EXPECT_EQ(code, 6) << read(log);
    EXPECT_THAT(read(log),
                testing::AllOf(testing::ContainsRegex("step_0000000[0-9]\\] expected to write [0-9]+ bytes, got: "
                                                      "No space left on device, [0-9]+ bytes free"),
                               testing::HasSubstr("earlier checkpoints are intact")));
    const io::CheckpointFolder folder(kept + "/align/checkpoints");
    EXPECT_EQ(folder.steps().size(), static_cast<size_t>(checkpoints));
    EXPECT_EQ(folder.newest([](const std::string&) {}).has_value(), checkpoints > 0);
    const auto resumed = test::vlmamba({"train", "--resume", kept});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    expect_same_run(kept, tiny.run("whole"), "step_00000005");
  }
}

// One signal in a long first step ends it, saves and leaves; a second one does not wait.
TEST(FaultMatrix, ASecondSignalEndsTheProgramAtOnce) {
  const TinyRun tiny;
  for (const int signals : {1, 2}) {
    const std::string run = tiny.run("run" + std::to_string(signals));
    const pid_t child = start({VLMAMBA_PROGRAM, "train", "--config", tiny.config, "--set", "output_dir=" + run, "--set",
                               "data_root=" + tiny.data, "--set", "stages.align.batch.global_batch=40000", "--set",
                               "stages.align.batch.micro_batch=1000"});
    for (int i = 0;
         i < 600 && (!fs::exists(run + "/log.txt") || read(run + "/log.txt").find("group") == std::string::npos); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    for (int i = 0; i < signals; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      ::kill(child, SIGTERM);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    const bool saved = fs::exists(run + "/align/checkpoints/step_00000001");
    if (signals == 1) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 75);
      EXPECT_TRUE(saved);
    } else {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
      EXPECT_FALSE(saved);
    }
  }
}

// Signals at random moments of start, data, steps, validation, saves and the change of stages.
TEST(FaultMatrix, SignalsAtAnyMomentLoseNothing) {
  const TinyRun tiny;
  std::vector<std::string> settings, whole;
  for (const std::string stage : {"align", "instruct"})
    for (const std::string setting :
         {"steps=30", "checkpoint.every=2", "checkpoint.keep_last=2", "data.validation_records=2", "validate_every=3"})
      settings.push_back("stages." + stage + "." + setting);
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(tiny.train(settings, "whole").code, 0);
  const auto length = std::chrono::steady_clock::now() - begun;
  std::mt19937 random(7);
  int kills = 0, stops = 0, ends = 0;
  std::vector<double> seconds;  // from a signal to the end
  for (const auto& [signal, runs] : {std::pair{SIGTERM, 8}, {SIGINT, 4}, {SIGHUP, 4}, {SIGKILL, 72}})
    for (int i = 0; i < runs; ++i) {
      const std::string run = tiny.run("run");
      std::vector<std::string> arguments{
          VLMAMBA_PROGRAM,         "train", "--config", tiny.config, "--set", "output_dir=" + run, "--set",
          "data_root=" + tiny.data};
      for (const auto& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
      for (int attempt = 0; attempt < 3; ++attempt) {
        const pid_t child = start(arguments);
        std::this_thread::sleep_for(length * (random() % 1000) / 1000.0);
        ::kill(child, signal);
        const auto asked = std::chrono::steady_clock::now();
        int status = 0;
        ::waitpid(child, &status, 0);
        if (WIFEXITED(status)) {
          seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - asked).count());
          ASSERT_TRUE(WEXITSTATUS(status) == 75 || WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
          (WEXITSTATUS(status) == 75 ? stops : ends) += 1;
        } else {
          ++kills;
        }
        if (fs::exists(run + "/config.json")) arguments = {VLMAMBA_PROGRAM, "train", "--resume", run};
      }
      std::vector<std::string> last(arguments.begin() + 1, arguments.end());
      const auto resumed = test::vlmamba(last);
      ASSERT_EQ(resumed.code, 0) << resumed.err;
      expect_same_run(run, tiny.run("whole"), "step_00000030");
      fs::remove_all(run);
    }
  std::sort(seconds.begin(), seconds.end());
  std::printf(
      "signals: %d killed at once, %d saved and left with 75 (median %.2f s, longest %.2f s), %d came too late; "
      "runs harmed: 0\n",
      kills, stops, seconds[seconds.size() / 2], seconds.back(), ends);
}

}  // namespace
}  // namespace vlmamba
