#include "tests/parity/golden.h"

namespace vlmamba {
namespace {

using namespace test;  // NOLINT: the words of this folder

constexpr std::array kEncoders{"clip_vision", "clip_vision_4", "clip", "siglip_vision", "siglip"};

TEST(VisionParity, FeaturesOfEveryLayerEqualTransformers) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kEncoders) {
    auto golden = golden_of(name);
    for (const int64_t layer : {0, 2, 3}) {
      const auto model = load(name, at::kFloat, true, layer);
      const double error = difference(model.vision_encoder->forward(golden["pixel_values"]),
                                      golden["features_" + std::to_string(layer)]);
      EXPECT_LT(error, kFp32) << name << " layer " << layer;
    }
    EXPECT_LT(difference(load(name).vision_encoder->forward(golden["pixel_values"]), golden["features_2"]), kFp32);
  }
}

TEST(VisionParity, Bf16IsWithinTwiceTheRoundingOfTransformers) {
  const c10::AutoGradMode no_grad(false);
  for (const std::string name : kEncoders) {
    auto golden = golden_of(name);
    const auto model = load(name, at::kBFloat16);
    const at::Tensor got = model.vision_encoder->forward(golden["pixel_values"].to(at::kBFloat16));
    EXPECT_EQ(got.scalar_type(), at::kBFloat16);
    EXPECT_LE(largest(got, golden["features_2"]), 2 * largest(golden["features_2_bf16"], golden["features_2"])) << name;
  }
}

}  // namespace
}  // namespace vlmamba
