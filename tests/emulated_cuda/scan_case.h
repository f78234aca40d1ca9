#pragma once

#include <array>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/emulated_cuda/device_under_test.h"

namespace vlmamba::test {

using OptionalTensor = std::optional<at::Tensor>;

/// What a scan is asked to do.
struct ScanShape {
  int64_t batch = 2, length = 7, channels = 5, states = 3, groups = 1;
  std::string scan = {};  // empty: the 1-D scan; else length = height * width
  int64_t height = 1, width = 7;
  bool merge = true, u_per_direction = false;
  at::ScalarType type = at::kDouble;
  bool skip = true, gate = true, bias = true, softplus = true, initial = true, runs = false;
  double largest_rate = 1;  // of -A
  double delta_shift = 0, delta_scale = 1;

  int64_t directions() const { return scan == "cross" ? 4 : scan == "bidirectional" ? 2 : 1; }
};
std::ostream& operator<<(std::ostream& out, const ScanShape& shape);

/// A scan's arguments, on the host.
struct ScanArguments {
  ScanShape shape;
  at::Tensor u, delta, A, B, C;
  OptionalTensor D, z, bias, initial, seq_idx;
};

/// Random arguments; runs are of random lengths, one among them, with padding in front, between and behind.
ScanArguments random_arguments(const ScanShape& shape);
/// The same numbers in fp64.
ScanArguments in_fp64(const ScanArguments& x);

/// The same numbers on the device.
ScanArguments on_device(const ScanArguments& x);

/// y and, for the 1-D scan, the final state; brought to the host, or left on the device.
std::vector<at::Tensor> run_scan(const ScanArguments& x);
std::vector<at::Tensor> call_scan(const ScanArguments& x);
/// Which gradients, in the order of kScanGradientNames.
using WantedScanGradients = std::array<bool, 9>;
constexpr WantedScanGradients kAllScanGradients{true, true, true, true, true, true, true, true, true};
/// Gradients of u, delta, A, B, C, D, z, bias and initial state; undefined where there is no such input.
std::vector<at::Tensor> run_scan_backward(const ScanArguments& x, const at::Tensor& dy, const OptionalTensor& dfinal,
                                          const WantedScanGradients& wanted = kAllScanGradients);
std::vector<at::Tensor> call_scan_backward(const ScanArguments& x, const at::Tensor& dy, const OptionalTensor& dfinal,
                                           const WantedScanGradients& wanted = kAllScanGradients);

/// The same from the plain-ATen reference.
std::vector<at::Tensor> reference_scan(const ScanArguments& x);
std::vector<at::Tensor> reference_scan_backward(const ScanArguments& x, const at::Tensor& dy,
                                                const OptionalTensor& dfinal);

extern const std::vector<const char*> kScanGradientNames;

}  // namespace vlmamba::test
