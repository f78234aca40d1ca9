#include "vlmamba/study/sweep.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <thread>

#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/study/children.h"
#include "vlmamba/study/config_difference.h"
#include "vlmamba/study/run_folder.h"

namespace vlmamba::study {
namespace {

namespace fs = std::filesystem;
using io::Json;
using Clock = std::chrono::steady_clock;

constexpr auto kPause = std::chrono::milliseconds(50);
constexpr size_t kShownDifferences = 5;
constexpr const char* kOutput = "/output.txt";

std::string seconds_since(Clock::time_point start) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - start).count();
  return std::to_string(seconds) + " s";
}

// What a program said last: usually why it failed.
std::string last_words(const std::string& path) {
  if (!fs::exists(path)) return "no output";
  std::istringstream lines(io::read_file(path, ExitCode::kIo));
  std::string last = "no output";
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) last = line.substr(line.rfind('\r') + 1);
  return last;
}

Json with_text(const Json& json, const std::string& from, const std::string& to) {
  if (json.is_string()) return json.as_string() == from ? Json(to) : json;
  if (json.is_array()) {
    Json array = Json::array();
    for (const auto& item : json.items()) array.push(with_text(item, from, to));
    return array;
  }
  Json object = json;
  for (const auto& [key, value] : json.members()) object.set(key, with_text(value, from, to));
  return object;
}

Json without_eval(Json config) {
  config.set("eval", Json());
  return config;
}

enum class State { kWaiting, kRunning, kFinished, kFailed };

class Sweep {
 public:
  Sweep(const std::vector<PlannedRun>& plan, const SweepSetup& setup)
      : setup_(setup),
        threads_(static_cast<int>(std::max<int64_t>(1, std::thread::hardware_concurrency() / setup.jobs))) {
    for (const auto& run : plan) entries_.push_back({run, State::kWaiting, {}, {}, {}});
  }

  SweepOutcome run() {
    while (advance()) std::this_thread::sleep_for(kPause);
    return std::move(outcome_);
  }

 private:
  struct Entry {
    PlannedRun run;
    State state;
    std::unique_ptr<Child> child;
    std::string doing;  // "train" or "evaluate"
    Clock::time_point start;
  };

  // One look at everything. Is there more to do?
  bool advance() {
    if (!outcome_.stopped && setup_.stop()) stop();
    for (auto& entry : entries_) {
      if (entry.state == State::kRunning) look_at(entry);
      const bool free = running_ < setup_.jobs && !outcome_.stopped;
      if (entry.state == State::kWaiting && free) consider(entry);
    }
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.state == State::kRunning || (entry.state == State::kWaiting && !outcome_.stopped);
    });
  }

  void stop() {
    outcome_.stopped = true;
    for (auto& entry : entries_)
      if (entry.child) entry.child->stop();
  }

  void look_at(Entry& entry) {
    ChildEnd end;
    if (!entry.child->poll(end)) return;
    entry.child.reset();
    --running_;
    if (end.code == static_cast<int>(ExitCode::kPreempted) && !outcome_.stopped) stop();
    if (outcome_.stopped) {
      entry.state = State::kWaiting;
      return;
    }
    if (end.signal != 0)
      return fail(entry, end.code, entry.doing + " was ended by signal " + std::to_string(end.signal));
    if (end.code != 0) return fail(entry, end.code, last_words(entry.run.folder + kOutput));
    const std::string done = entry.doing;
    guarded(entry, [&] { proceed(entry); });
    if (entry.state == State::kRunning && entry.doing == done)
      fail(entry, 1, done + " ended well but left its work undone");
  }

  // Starts a run whose needs are met.
  void consider(Entry& entry) {
    const PlannedRun& run = entry.run;
    for (const std::string& needed : {run.weights_from, run.links_from}) {
      if (needed.empty()) continue;
      const Entry& other = entry_at(needed);
      if (other.state == State::kFailed) return fail(entry, 0, "it needs " + other.run.name + ", which failed");
      if (other.state != State::kFinished) return;
    }
    guarded(entry, [&] {
      begin(run);
      entry.start = Clock::now();
      proceed(entry);
      if (entry.state == State::kFinished) ++outcome_.found;
    });
  }

  // The next program that the run needs, or none.
  void proceed(Entry& entry) {
    const PlannedRun& run = entry.run;
    const auto stages = stage_names(run.config);
    if (!finished_stage(run.folder, stages.back())) return launch(entry, "train", {"--resume", run.folder});
    if (!task_names(run.config).empty() && !evaluated(run.folder, current_config(run)))
      return launch(entry, "evaluate", {"--checkpoint", run.folder, "--config", run.folder + "/config.json"});
    entry.state = State::kFinished;
    ++outcome_.finished;
    if (!entry.doing.empty()) log::info(count() + " " + run.name + ": finished after " + seconds_since(entry.start));
  }

  void launch(Entry& entry, const std::string& command, std::vector<std::string> arguments) {
    if (entry.doing == command) return;  // look_at tells
    arguments.insert(arguments.begin(), {setup_.program, command});
    if (command == "train" && !setup_.launch.empty()) {
      auto launcher = found_program(setup_.launch[0], setup_.program);
      launcher.insert(launcher.end(), setup_.launch.begin() + 1, setup_.launch.end());
      arguments.insert(arguments.begin(), launcher.begin(), launcher.end());
    }
    entry.child = std::make_unique<Child>(ChildCommand{arguments, entry.run.folder + kOutput, threads_});
    entry.doing = command;
    entry.state = State::kRunning;
    ++running_;
    log::info(entry.run.name + ": " + command);
  }

  Json current_config(const PlannedRun& run) const {
    if (run.weights_from.empty()) return run.config;
    const auto stages = stage_names(entry_at(run.weights_from).run.config);
    return with_text(run.config, run.weights_from, finished_stage(run.weights_from, stages.back()).value().folder);
  }

  // Makes the run's folder, or sees that it is this run's. A new evaluation is no new run.
  void begin(const PlannedRun& run) const {
    const std::string path = run.folder + "/config.json";
    const Json config = current_config(run);
    if (fs::exists(path)) {
      const Json there = setup_.read_config(path);
      const auto different = config_differences(without_eval(there), without_eval(config));
      if (!different.empty()) refuse(run, different);
      if (there.to_string() == config.to_string()) return;
    }
    io::make_folder(run.folder);
    const auto stages = stage_names(run.config);
    for (size_t i = 0; i < run.linked_stages; ++i) link_stage(run.links_from, run.folder, stages[i]);
    io::write_file_atomically(path, config.to_string(2) + "\n");
  }

  [[noreturn]] static void refuse(const PlannedRun& run, const std::vector<ConfigDifference>& different) {
    std::string keys;
    for (size_t i = 0; i < std::min(different.size(), kShownDifferences); ++i)
      keys += (i ? "; " : "") + different[i].key + " was " + different[i].left + ", now " + different[i].right;
    throw Error(ExitCode::kUsage, run.folder,
                "expected a run of this config, got another's (" + keys +
                    "); move it away, or name another folder with --set output_dir=…");
  }

  template <typename Work>
  void guarded(Entry& entry, const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      fail(entry, static_cast<int>(error.code()), error.what());
    }
  }

  void fail(Entry& entry, int code, const std::string& why) {
    entry.state = State::kFailed;
    outcome_.failures.push_back({entry.run.name, why, code});
    log::warn(entry.run.name + " failed: " + why);
  }

  const Entry& entry_at(const std::string& folder) const {
    return *std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.run.folder == folder; });
  }
  std::string count() const { return std::to_string(outcome_.finished) + " of " + std::to_string(entries_.size()); }

  const SweepSetup& setup_;
  const int threads_;
  std::vector<Entry> entries_;
  int64_t running_ = 0;
  SweepOutcome outcome_;
};

}  // namespace

SweepOutcome run_sweep(const std::vector<PlannedRun>& plan, const SweepSetup& setup) {
  return Sweep(plan, setup).run();
}

}  // namespace vlmamba::study
