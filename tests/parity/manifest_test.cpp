#include <filesystem>

#include "tests/parity/golden.h"
#include "vlmamba/core/error.h"
#include "vlmamba/model/formats/foreign.h"
#include "vlmamba/nn/parameters.h"

namespace vlmamba {
namespace {

const std::string kManifest = std::string(VLMAMBA_SHARED_DATA) + "/checkpoints/key_manifest.json";

std::vector<io::TensorInfo> tensors_of(const io::Json& model) {
  std::vector<io::TensorInfo> tensors;
  for (const char* group : {"tensors", "optional"})
    if (const auto* entries = model.find(group))
      for (const auto& [name, entry] : entries->members()) {
        io::TensorInfo info{.name = name, .dtype = "F32", .shape = {}, .strides = {}};
        for (const auto& extent : entry.items()[0].items()) info.shape.push_back(extent.as_integer());
        tensors.push_back(std::move(info));
      }
  return tensors;
}

// The published checkpoints' lists of names and shapes are exactly what our modules ask for.
TEST(Manifest, PublishedCheckpointsFitOurModules) {
  if (!std::filesystem::exists(kManifest)) GTEST_SKIP() << "no " << kManifest;
  const auto manifest = io::read_json(kManifest, ExitCode::kData);
  const nn::WithoutValues on_meta(at::kFloat, at::kMeta);
  const auto check_language = [&](const std::string& name, int64_t width, int64_t layers, bool official) {
    LanguageModelConfig config;
    config.hidden_size = width, config.num_layers = layers;
    if (!official) config.vocab_size = 50280, config.pad_vocab_multiple = 1;
    const auto model = make_language_model(config);
    EXPECT_NO_THROW(check_weights(named_parameters(*model), tensors_of(*manifest.find(name)), name,
                                  formats::language_names(config)))
        << name;
    int64_t parameters = 0;
    for (const auto& parameter : model->parameters()) parameters += parameter.numel();
    EXPECT_EQ(parameters, manifest.find(name)->find("parameters")->as_integer()) << name;
  };
  check_language("state-spaces/mamba-130m", 768, 24, true);
  check_language("state-spaces/mamba-1.4b", 2048, 48, true);
  check_language("state-spaces/mamba-2.8b-slimpj", 2560, 64, true);
  check_language("state-spaces/mamba-2.8b-hf", 2560, 64, false);

  VisionEncoderConfig siglip, clip;
  clip.kind = VisionKind::kClip, clip.image_size = 336, clip.hidden_size = 1024;
  clip.intermediate_size = 4096, clip.num_layers = 24;
  for (const auto& [name, config] :
       {std::pair("google/siglip-so400m-patch14-384", siglip), std::pair("openai/clip-vit-large-patch14-336", clip)})
    for (const int64_t layer : {-1, -2}) {
      auto used = config;
      used.feature_layer = layer;
      EXPECT_NO_THROW(check_weights(named_parameters(*make_vision_encoder(used)), tensors_of(*manifest.find(name)),
                                    name, formats::vision_names(used)))
          << name;
    }
}

TEST(Manifest, DifferencesAreListedTogetherWithTheNearestNames) {
  const nn::WithoutValues on_meta(at::kFloat, at::kMeta);
  LanguageModelConfig config;
  config.vocab_size = 16, config.hidden_size = 8, config.num_layers = 1;
  const auto model = make_language_model(config);
  std::vector<io::TensorInfo> stored;
  for (const auto& [name, tensor] : named_parameters(*model))
    stored.push_back({.name = name, .dtype = "F32", .shape = tensor.sizes().vec(), .strides = {}});
  stored[0].shape = {17, 8};
  stored.back().name = "backbone.norm.weight";
  try {
    check_weights(named_parameters(*model), stored, "file", formats::language_names(config));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kWeights);
    EXPECT_STREQ(error.what(),
                 "[file] expected the tensors of the model, got 3 differences:"
                 "\n    wrong shape  backbone.embeddings.weight: expected [16, 8], got [17, 8]"
                 "\n    missing      backbone.norm_f.weight [8]; the file has backbone.norm.weight"
                 "\n    unexpected   backbone.norm.weight [8]");
  }
}

TEST(Manifest, AConfigThatDisagreesWithItsFolderIsRefusedValueByValue) {
  LanguageModelConfig config;
  config.vocab_size = 37, config.hidden_size = 16, config.num_layers = 2, config.d_state = 5;
  config.pretrained = test::folder_of("mamba_official");
  ModelConfig model;
  model.vision_encoder = {VisionKind::kClip, 8, 4, 4, 4, 1, 1, -1, {}, {}, ""};
  model.language_model = config;
  try {
    build_model(model, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kWeights);
    const std::string text = error.what();
    for (const char* key : {"hidden_size: the config says 16", "num_layers: the config says 2",
                            "d_conv: the config says 4", "dt_rank: the config says 1"})
      EXPECT_NE(text.find(key), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace vlmamba
