#include "vlmamba/train/run_log.h"

#include <chrono>
#include <filesystem>
#include <sstream>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba {
namespace {

using io::Json;

void cut_back(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  std::istringstream lines(io::read_file(path, ExitCode::kIo));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (lines.eof()) break;  // without its line feed: torn
    const Json json = io::parse_json(line, path, ExitCode::kIo);
    if (io::require(json, "step", Json::Kind::kInteger, path, ExitCode::kIo).as_integer() <= step) kept += line + "\n";
  }
  io::write_file_atomically(path, kept);
}

void append(std::ofstream& file, const std::string& path, const Json& line) {
  file << line.to_string() << "\n" << std::flush;
  if (!file) throw Error(ExitCode::kIo, path, "expected to append a line, got a failed write (is the disk full?)");
}

void draw(io::EventWriter& curves, const std::string& prefix, const Json& values, int64_t step, double time) {
  for (const auto& [key, value] : values.members()) {
    if (key == "step") continue;
    if (value.is_object()) draw(curves, prefix + key + "/", value, step, time);
    if (value.is_number()) curves.scalar(prefix + key, step, static_cast<float>(value.as_number()), time);
  }
}

}  // namespace

RunLog::RunLog(const std::string& folder, int64_t step) : folder_(folder) {
  io::make_folder(folder);
  for (const char* name : {"/metrics.jsonl", "/timing.jsonl"}) cut_back(folder + name, step);
  metrics_.open(folder + "/metrics.jsonl", std::ios::app);
  timing_.open(folder + "/timing.jsonl", std::ios::app);
  curves_ = std::make_unique<io::EventWriter>(folder + "/tensorboard");
}

void RunLog::write(const Json& metrics, const Json& timing) {
  append(metrics_, folder_ + "/metrics.jsonl", metrics);
  append(timing_, folder_ + "/timing.jsonl", timing);
  const double time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const int64_t step = metrics.find("step")->as_integer();
  draw(*curves_, "train/", metrics, step, time);
  draw(*curves_, "timing/", timing, step, time);
}

}  // namespace vlmamba
