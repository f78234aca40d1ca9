#include "vlmamba/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"

namespace vlmamba::log {
namespace {

constexpr double kTerminalInterval = 0.2, kFileInterval = 10;  // seconds

std::shared_ptr<spdlog::logger> file_logger;
std::string quiet_prefix;  // of a process that only warns

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  return whole < 3600 ? fmt::format("{}:{:02}", whole / 60, whole % 60)
                      : fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

void write(spdlog::level::level_enum level, const std::string& prefix, const std::string& line) {
  if (file_logger) file_logger->log(level, line);
  if (!quiet_prefix.empty() && level < spdlog::level::warn) return;
  if (::isatty(STDERR_FILENO)) std::fputs("\r\033[K", stderr);  // where a progress line may stand
  std::fprintf(stderr, "%s%s%s\n", quiet_prefix.c_str(), prefix.c_str(), printable(line, "\n\t").c_str());
}

}  // namespace

void info(const std::string& line) { write(spdlog::level::info, "", line); }
void warn(const std::string& line) { write(spdlog::level::warn, "warning: ", line); }

void quieten(const std::string& prefix) { quiet_prefix = prefix; }

void set_file(const std::string& path) {
  file_logger.reset();
  if (path.empty()) return;
  try {
    file_logger =
        std::make_shared<spdlog::logger>("vlmamba", std::make_shared<spdlog::sinks::basic_file_sink_mt>(path));
  } catch (const spdlog::spdlog_ex& error) {
    throw Error(ExitCode::kIo, path, std::string("expected to open the log, got: ") + error.what());
  }
  file_logger->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
  file_logger->flush_on(spdlog::level::info);
}

Progress::Progress(std::string name, int64_t total, int64_t done)
    : name_(std::move(name)),
      total_(total),
      first_(done),
      start_(now()),
      shown_(start_),
      terminal_(::isatty(STDERR_FILENO) != 0) {}

Progress::~Progress() {
  if (open_) std::fputc('\n', stderr);
}

void Progress::update(int64_t done, const std::string& note) {
  const double time = now();
  if (!quiet_prefix.empty()) return;
  if (done < total_ && time - shown_ < (terminal_ ? kTerminalInterval : kFileInterval)) return;
  shown_ = time;
  const double rate = static_cast<double>(done - first_) / std::max(time - start_, 1e-9);
  const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
  const std::string line =
      fmt::format("{}: {}/{}  {}  {:.2f}/s, {} left", name_, done, total_, note, rate, duration(left));
  if (!terminal_) return info(line);
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
  std::fflush(stderr);
  open_ = true;
}

}  // namespace vlmamba::log
