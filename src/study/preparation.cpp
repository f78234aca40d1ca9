#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "vlmamba/core/log.h"
#include "vlmamba/study/children.h"
#include "vlmamba/study/sweep.h"

namespace vlmamba::study {
namespace {

namespace fs = std::filesystem;

constexpr auto kPause = std::chrono::milliseconds(100);
constexpr auto kPatience = std::chrono::seconds(60);

void run_step(const Preparation& step, const SweepSetup& setup) {
  if (fs::exists(step.creates)) return;
  auto arguments = found_program(step.command[0], setup.program);
  arguments.insert(arguments.end(), step.command.begin() + 1, step.command.end());
  const std::string output = setup.folder + "/prepare_" + step.name + ".txt";
  log::info("prepare " + step.name);
  Child child({arguments, output, 0});
  ChildEnd end;
  while (!child.poll(end)) {
    if (setup.stop()) throw Error(ExitCode::kPreempted, "prepare." + step.name, "stopped before it ended");
    std::this_thread::sleep_for(kPause);
  }
  if (end.code != 0 || !fs::exists(step.creates))
    throw Error(end.code == 3 ? ExitCode::kData : ExitCode::kUsage, "prepare." + step.name,
                "expected the command to make " + step.creates + ", got exit code " + std::to_string(end.code) +
                    "; see " + output);
}

}  // namespace

std::vector<std::string> found_program(const std::string& name, const std::string& own_program) {
  if (name.find('/') != std::string::npos) return {fs::absolute(name).string()};
  const fs::path beside = fs::path(own_program).parent_path() / name;
  return fs::exists(beside) ? std::vector{beside.string()} : std::vector<std::string>{"/usr/bin/env", name};
}

void prepare(const std::vector<Preparation>& steps, const SweepSetup& setup) {
  for (const auto& step : steps) run_step(step, setup);
}

// The descriptor is inherited: the lock holds until the last program that a sweep started has ended.
SweepLock::SweepLock(const std::string& folder) {
  const std::string path = folder + "/.lock";
  descriptor_ = ::open(path.c_str(), O_CREAT | O_RDWR, 0644);
  if (descriptor_ < 0) throw Error(ExitCode::kIo, path, "expected to make the lock file, got a failed open");
  const auto start = std::chrono::steady_clock::now();
  for (bool told = false; ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; told = true) {
    if (!told) log::info("waiting for the programs of another sweep in " + folder + " to end");
    std::this_thread::sleep_for(kPause);
    if (std::chrono::steady_clock::now() - start < kPatience) continue;
    ::close(descriptor_);
    throw Error(ExitCode::kUsage, folder, "expected a sweep that no other program runs, got one that is locked");
  }
}

SweepLock::~SweepLock() { ::close(descriptor_); }

}  // namespace vlmamba::study
