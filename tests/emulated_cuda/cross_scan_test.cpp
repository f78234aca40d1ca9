#include <sstream>

#include "tests/emulated_cuda/device_under_test.h"
#include "vlmamba/ops/reference.h"

// cross_scan and cross_merge of the device: copies and sums of permutations.

namespace vlmamba::test {
namespace {

using at::Tensor;
using Crossing = Tensor(const Tensor&, c10::string_view, c10::SymInt, c10::SymInt);

using CrossScanKernel = KernelTest;

TEST_F(CrossScanKernel, EqualsTheReferenceForEveryScanTypeAndShape) {
  for (const char* scan : {"forward", "bidirectional", "cross"})
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble})
      for (const auto& [height, width] : {std::pair<int64_t, int64_t>{3, 5}, {1, 7}, {7, 1}, {4, 4}, {1, 1}})
        for (const int64_t channels : {1, 7, 16}) {
          std::ostringstream text;
          text << scan << " " << type << " " << height << "x" << width << " D" << channels;
          SCOPED_TRACE(text.str());
          const Tensor x = at::randn({3, height * width, channels}).to(type);
          const c10::SymInt h(height), w(width);
          const Tensor sequences = run_kernel<Crossing>("vlmamba::cross_scan", x, scan, h, w);
          EXPECT_TRUE(at::equal(sequences, ops::reference::cross_scan(x, scan, height, width)));
          const Tensor parts = at::randn(sequences.sizes(), at::kDouble).to(type);
          const Tensor merged = run_kernel<Crossing>("vlmamba::cross_merge", parts, scan, h, w);
          EXPECT_EQ(merged.scalar_type(), type);
          expect_close(merged, ops::reference::cross_merge(parts.to(at::kDouble), scan, height, width), tolerance(type),
                       "merged");
        }
}

TEST_F(CrossScanKernel, TakesEmptyBatchesAndAnyStrides) {
  const c10::SymInt h(2), w(3);
  EXPECT_EQ(run_kernel<Crossing>("vlmamba::cross_scan", at::randn({0, 6, 4}), "cross", h, w).size(1), 4);
  EXPECT_EQ(run_kernel<Crossing>("vlmamba::cross_merge", at::randn({0, 4, 6, 4}), "cross", h, w).dim(), 3);
  const Tensor x = at::randn({2, 8, 6}), strided = x.transpose(1, 2);
  EXPECT_TRUE(at::equal(run_kernel<Crossing>("vlmamba::cross_scan", strided, "cross", h, w),
                        run_kernel<Crossing>("vlmamba::cross_scan", strided.contiguous(), "cross", h, w)));
}

TEST_F(CrossScanKernel, ThreadOrdersAgreeToTheBit) {
  const c10::SymInt h(3), w(4);
  const Tensor x = at::randn({2, 12, 8}), parts = at::randn({2, 4, 12, 8});
  same_in_every_order([&]() -> std::vector<Tensor> {
    return {run_kernel<Crossing>("vlmamba::cross_scan", x, "cross", h, w),
            run_kernel<Crossing>("vlmamba::cross_merge", parts, "cross", h, w)};
  });
}

}  // namespace
}  // namespace vlmamba::test
