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
  before_term_ = std::signal(SIGTERM, on_stop_signal);
  before_int_ = std::signal(SIGINT, on_stop_signal);
}

StopSignal::~StopSignal() {
  std::signal(SIGTERM, before_term_);
  std::signal(SIGINT, before_int_);
}

bool StopSignal::received() { return stop_signal != 0; }

}  // namespace vlmamba::app
