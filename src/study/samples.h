#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/study/answered_task.h"

namespace vlmamba::study {

struct SampleAnswer {
  std::string cell, text;
  std::optional<double> credit;
};

/// A question with its picture and what each cell answered.
struct Sample {
  std::string picture;  ///< a data: URL; empty where there is none
  bool small = false;   ///< a picture of few pixels, which is shown enlarged without blurring
  std::string question, category, truth;
  std::vector<SampleAnswer> answers;
};

struct TaskSamples {
  std::string task;
  std::vector<Sample> samples;
  std::string missing;  ///< why there are none
};

/// A few questions of every task that shows real pictures: of each category in turn one that the cells answer
/// differently, if there is one. The answers are those of each cell's first run.
std::vector<TaskSamples> pick_samples(const Outcomes& outcomes, size_t count,
                                      const std::map<std::string, TaskFactory>& extensions);

}  // namespace vlmamba::study
