#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "bench/workload.h"
#include "vlmamba/io/json.h"

namespace vlmamba::bench {

struct Options {
  std::vector<std::string> shapes, ops;  ///< suites or sizes; ops empty: all
  at::Device device = at::kCPU;
  at::ScalarType type = at::kFloat;
  double seconds = 1;     ///< of each measurement
  double memory_gib = 0;  ///< most that a shape may take; 0: half of what is free
  bool reference = true;
};

/// One measured pass.
struct Row {
  Shape shape;
  std::string pass;    ///< forward | backward
  std::string scaled;  ///< how the shape was made smaller, or empty
  Times times;
  Cost cost;
  double extra_bytes = -1;               ///< of forward and backward together, beyond inputs, outputs and gradients
  std::optional<double> over_reference;  ///< how many times longer plain ATen takes at reference_shape, same run
  std::string reference_shape;
};

/// Measures every op of every shape and prints a row at once. Shapes that do not fit are scaled down and say so.
std::vector<Row> run(const Options& options, const Limits& limits);

io::Json to_json(const Options& options, const Limits& limits, const std::vector<Row>& rows);

}  // namespace vlmamba::bench
