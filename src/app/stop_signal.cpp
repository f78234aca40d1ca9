#include "src/app/stop_signal.h"

#include <csignal>

namespace vlmamba::app {
namespace {

volatile std::sig_atomic_t stop_signal = 0;

void on_stop_signal(int signal) {
  stop_signal = signal;
  std::signal(signal, SIG_DFL);
}

}  // namespace

StopSignal::StopSignal() {
  stop_signal = 0;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) before_[signal] = std::signal(signal, on_stop_signal);
  if (before_[SIGHUP] == SIG_IGN) std::signal(SIGHUP, SIG_IGN);
}

StopSignal::~StopSignal() {
  for (const auto& [signal, before] : before_) std::signal(signal, before);
}

bool StopSignal::received() { return stop_signal != 0; }

}  // namespace vlmamba::app
