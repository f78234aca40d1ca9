#pragma once

#include <string>
#include <vector>

#include "src/study/samples.h"
#include "src/study/summary.h"

namespace vlmamba::study {

/// The report as one HTML page.
std::string to_page(const Outcomes& outcomes, const Summary& summary, const std::vector<TaskSamples>& samples);

}  // namespace vlmamba::study
