#include "vlmamba/core/log.h"

#include <fcntl.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>

#include "vlmamba/core/error.h"
#include "vlmamba/core/text.h"

namespace vlmamba::log {
namespace {

constexpr double kTerminalInterval = 0.2, kFileInterval = 10;  // seconds

// Lines that a full disk refuses are kept and written before the next one; the first failure is told.
class LogFile final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LogFile(const std::string& path)
      : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0)
      throw Error(ExitCode::kIo, path, std::string("expected to open the log, got: ") + std::strerror(errno));
  }
  ~LogFile() override { ::close(descriptor_); }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    kept_.append(line.data(), line.size());
    flush_();
  }

  void flush_() override {
    while (!kept_.empty()) {
      const ssize_t written = ::write(descriptor_, kept_.data(), kept_.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return tell(written < 0 ? errno : ENOSPC);
      kept_.erase(0, static_cast<size_t>(written));
    }
    told_ = false;
  }

  void tell(int number) {
    if (told_) return;
    told_ = true;
    std::fprintf(stderr, "warning: [%s] expected to append a line, got: %s; it is kept and written later\n",
                 path_.c_str(), std::strerror(number));
  }

  std::string path_, kept_;
  int descriptor_;
  bool told_ = false;
};

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
  file_logger = std::make_shared<spdlog::logger>("vlmamba", std::make_shared<LogFile>(path));
  file_logger->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
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
