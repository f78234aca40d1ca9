#include "vlmamba/train/run_log.h"

#include <chrono>
#include <filesystem>
#include <sstream>

#include "vlmamba/core/error.h"
#include "vlmamba/core/log.h"
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
    try {
      const Json json = io::parse_json(line, path, ExitCode::kIo);
      if (io::require(json, "step", Json::Kind::kInteger, path, ExitCode::kIo).as_integer() <= step)
        kept += line + "\n";
    } catch (const Error& error) {  // what a lost disk left of lines that were never synced
      log::warn(std::string(error.what()) + "; the log is cut off there");
      break;
    }
  }
  io::write_file_atomically(path, kept);
}

bool draw(io::EventWriter& curves, const std::string& prefix, const Json& values, int64_t step, double time) {
  bool whole = true;
  for (const auto& [key, value] : values.members()) {
    if (key == "step") continue;
    if (value.is_object()) whole &= draw(curves, prefix + key + "/", value, step, time);
    if (value.is_number()) whole &= curves.scalar(prefix + key, step, static_cast<float>(value.as_number()), time);
  }
  return whole;
}

}  // namespace

RunLog::RunLog(const std::string& folder, int64_t step) : folder_(folder) {
  io::make_folder(folder);
  for (const char* name : {"/metrics.jsonl", "/timing.jsonl"}) cut_back(folder + name, step);
  metrics_ = std::make_unique<io::AppendFile>(folder + "/metrics.jsonl");
  timing_ = std::make_unique<io::AppendFile>(folder + "/timing.jsonl");
  curves_ = std::make_unique<io::EventWriter>(folder + "/tensorboard");
}

void RunLog::write(io::AppendFile& file, const std::string& prefix, const Json& line) {
  const double time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const bool whole = file.append(line.to_string() + "\n");
  note(draw(*curves_, prefix, line, line.find("step")->as_integer(), time) && whole);
}

void RunLog::note(bool whole) {
  if (!whole && !behind_)
    log::warn("[" + folder_ +
              "] expected to append to the logs, got a failed write (is the disk full?); what is "
              "missing is kept and written later");
  behind_ = !whole;
}

void RunLog::write_metrics(const Json& line) { write(*metrics_, "train/", line); }

void RunLog::write_timing(const Json& line) { write(*timing_, "timing/", line); }

void RunLog::sync() {
  const bool metrics = metrics_->sync(), timing = timing_->sync();
  note(metrics && timing);
}

void RunLog::finish() {
  metrics_->finish();
  timing_->finish();
}

}  // namespace vlmamba
