#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::bench {

/// One op, or one module, at one size. Legend: B rows or pictures, L positions, D channels, N states, G groups, W taps,
/// K scan directions of an H x W map (then L = height * width).
struct Shape {
  std::string op;
  int64_t B = 1, L = 1, D = 1, N = 16, G = 1, W = 4, K = 1;
  int64_t height = 0, width = 0;
  bool gated = true;  ///< a scan with D, z, bias and softplus, as in a Mamba layer; else with softplus alone
  std::string block;  ///< op vss: mamba | ss2d

  bool map() const { return height > 0; }
  std::string_view scan() const { return K == 1 ? "forward" : K == 2 ? "bidirectional" : "cross"; }
  /// "B8 L2048 D5120 N16", the sizes that matter to the op.
  std::string text() const;
};

/// Each named suite and what it stands for.
struct Suite {
  const char* name;
  const char* help;
};
const std::vector<Suite>& suites();

/// The shapes of a suite, or of one shape spelt as `B8 L2048 D5120 N16` or `B64 27x27 D2304 K2 N16` for all ops that
/// can take it. Throws Error (kUsage).
std::vector<Shape> shapes_of(const std::string& suite_or_sizes);

/// All ops that can be asked for.
const std::vector<std::string>& op_names();

}  // namespace vlmamba::bench
