#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "vlmamba/app/build.h"
#include "vlmamba/model/weights.h"

/// The checkpoints and outputs that tests/golden/foreign_models.py wrote with the original libraries.
namespace vlmamba::test {

inline std::string folder_of(const std::string& name) {
  return std::string(VLMAMBA_SOURCE_DIR) + "/tests/parity/data/" + name;
}

inline std::map<std::string, at::Tensor> golden_of(const std::string& name) {
  const io::WeightFiles file(folder_of(name) + "/golden.safetensors");
  std::map<std::string, at::Tensor> tensors;
  for (const auto& tensor : file.tensors()) tensors[tensor.name] = read_tensor(tensor);
  return tensors;
}

inline app::ForeignModel load(const std::string& name, at::ScalarType type = at::kFloat, bool padded_logits = true,
                              std::optional<int64_t> layer = {}) {
  return app::load_foreign(folder_of(name), {type, layer, padded_logits}).value();
}

inline double largest(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

/// The largest difference, as a share of the largest value.
inline double difference(const at::Tensor& got, const at::Tensor& expected) {
  EXPECT_TRUE(got.sizes().equals(expected.sizes())) << got.sizes() << " " << expected.sizes();
  return largest(got, expected) / expected.abs().max().item<double>();
}

constexpr double kFp32 = 2e-4;

}  // namespace vlmamba::test
