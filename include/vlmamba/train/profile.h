#pragma once

#include <cstdint>
#include <string>

#include "vlmamba/core/fields.h"

namespace vlmamba {

struct ProfileConfig {
  int64_t first_step = 1;
  int64_t steps = 0;

  template <typename F>
  void visit(F& f) {
    f("first_step", first_step, "the first step that is recorded", Range{1});
    f("steps", steps, "how many are, into the stage's folder as profile.json, Chrome's trace format; 0: none",
      Range{0});
  }
};

/// Records steps of a stage as a trace for chrome://tracing or ui.perfetto.dev: every operator, on the GPU every
/// kernel, and the step's phases.
class Profile {
 public:
  Profile(const ProfileConfig& config, std::string path);
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  /// To be called before each step, counted from 1.
  void before_step(int64_t step);
  /// To be called after each step; writes the trace behind the last one that is recorded.
  void after_step(int64_t step);

 private:
  void finish();

  ProfileConfig config_;
  std::string path_;
  bool recording_ = false;
};

}  // namespace vlmamba
