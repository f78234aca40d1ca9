#include "vlmamba/model/formats/foreign.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/tiny_run.h"
#include "vlmamba/app/build.h"
#include "vlmamba/io/weights/safetensors.h"
#include "vlmamba/model/weights.h"

namespace vlmamba {
namespace {

using at::Tensor;
using test::Folder;
using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;

std::string checkpoint(const std::string& name) {
  return std::string(VLMAMBA_SOURCE_DIR) + "/tests/parity/data/" + name;
}

Tensor stored(const std::string& path, const std::string& name) {
  return read_tensor(*io::WeightFiles(path).find(name));
}

void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors) {
  io::write_file_atomically(path.string(), tensors_to_safetensors(tensors));
}

double largest(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

test::Outcome forward(const std::string& model, const Folder& folder, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments{"forward",
                                     "--checkpoint",
                                     model,
                                     "--input",
                                     (folder / "in.safetensors").string(),
                                     "--output",
                                     (folder / "out.safetensors").string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return test::vlmamba(arguments);
}

TEST(Forward, GivesTheOriginalsFeaturesAndLogits) {
  const Folder folder;
  const std::string in = (folder / "in.safetensors").string(), out = (folder / "out.safetensors").string();
  const std::string clip = checkpoint("clip") + "/golden.safetensors";
  write_tensors(in, {{"pixel_values", stored(clip, "pixel_values")}});
  ASSERT_EQ(forward(checkpoint("clip"), folder).code, 0);
  EXPECT_LT(largest(stored(out, "features"), stored(clip, "features_2")), 1e-4);
  ASSERT_EQ(forward(checkpoint("clip"), folder, {"--layer", "-1"}).code, 0);
  EXPECT_LT(largest(stored(out, "features"), stored(clip, "features_3")), 1e-4);

  const std::string mamba = checkpoint("mamba_official") + "/golden.safetensors";
  write_tensors(in, {{"input_ids", stored(mamba, "input_ids")}, {"attention_mask", stored(mamba, "mask_left")}});
  ASSERT_EQ(forward(checkpoint("mamba_official"), folder).code, 0);
  const Tensor real = stored(mamba, "mask_left").unsqueeze(-1);
  EXPECT_LT(largest(stored(out, "logits") * real, stored(mamba, "logits_left") * real), 1e-3);
  ASSERT_EQ(forward(checkpoint("mamba_official"), folder, {"--dtype", "bfloat16"}).code, 0);
  EXPECT_GT(largest(stored(out, "logits") * real, stored(mamba, "logits_left") * real), 1e-4);
  EXPECT_EQ(stored(out, "logits").scalar_type(), at::kFloat);
}

TEST(Forward, APictureIsOnePlaceOrOneForEachPatch) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const auto in = tiny.folder / "in.safetensors";
  const std::string out = (tiny.folder / "out.safetensors").string();
  const Tensor pixels = at::randn({2, 3, 8, 8});
  const auto ids = [](const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).view({2, -1}); };
  write_tensors(in, {{"pixel_values", pixels}, {"input_ids", ids({-200, 5, 6, -200, 7, 8})}});
  ASSERT_EQ(forward(tiny.run(), tiny.folder).code, 0);
  const Tensor once = stored(out, "logits");
  EXPECT_EQ(once.sizes(), (at::IntArrayRef{2, 6, 472}));
  EXPECT_TRUE(once.isfinite().all().item<bool>());  // padded rows too
  write_tensors(
      in, {{"pixel_values", pixels}, {"input_ids", ids({-200, -200, -200, -200, 5, 6, -200, -200, -200, -200, 7, 8})}});
  ASSERT_EQ(forward(tiny.run(), tiny.folder).code, 0);
  EXPECT_TRUE(at::equal(stored(out, "logits"), once));
  // Rows of unequal length: the one without a picture is padded.
  write_tensors(in, {{"pixel_values", pixels.slice(0, 0, 1)}, {"input_ids", ids({-200, 5, 6, 4, 7, 8})}});
  ASSERT_EQ(forward(tiny.run(), tiny.folder).code, 0);
  EXPECT_LT(largest(stored(out, "logits")[0], once[0]), 1e-5);
  write_tensors(in, {{"pixel_values", pixels}, {"input_ids", ids({-200, 5, 6, 4, 7, 8})}});
  const auto wrong = forward(tiny.run(), tiny.folder);
  EXPECT_EQ(wrong.code, 3);
  EXPECT_THAT(wrong.err, HasSubstr("expected -200 once a picture (2) or once a patch (8), got 1"));
  write_tensors(in, {{"pixel_values", at::randn({1, 3, 8, 9})}, {"input_ids", ids({-200, 5, 6, 4, 7, 8})}});
  const auto wide = forward(tiny.run(), tiny.folder);  // as many patches, and a column more
  EXPECT_EQ(wide.code, 3);
  EXPECT_THAT(wide.err, HasSubstr("[pixel_values] expected [I, 3, 8, 8], got [1, 3, 8, 9]"));
}

TEST(Forward, NamesWhatIsWrongWithItsInput) {
  const Folder folder;
  const auto in = folder / "in.safetensors";
  const auto refused = [&](const NamedTensors& tensors, const std::string& model, const std::string& expected) {
    write_tensors(in, tensors);
    const auto outcome = forward(checkpoint(model), folder);
    EXPECT_EQ(outcome.code, 3) << expected;
    EXPECT_THAT(outcome.err, HasSubstr(expected));
  };
  const Tensor ids = at::zeros({1, 3}, at::kLong);
  refused({{"pixels", ids}}, "clip", "expected pixel_values, input_ids and attention_mask, got \"pixels\"");
  refused({{"input_ids", ids}}, "clip", "expected the tensor pixel_values, got none");
  refused({{"pixel_values", at::zeros({1, 3, 30, 31})}}, "clip", "expected [I, 3, 31, 31], got [1, 3, 30, 31]");
  refused({{"input_ids", ids + 40}}, "mamba_official", "expected ids of 0 to 39, got 40");
  refused({{"input_ids", ids - 200}}, "mamba_official", "got -200");
  refused({{"input_ids", ids[0]}}, "mamba", "expected 2 dimensions, got 1");
  const auto mask = [](std::vector<int64_t> values) { return at::tensor(values, at::kLong).view({1, 3}); };
  refused({{"input_ids", ids}, {"attention_mask", ids.slice(1, 1)}}, "mamba", "expected the shape of input_ids");
  refused({{"input_ids", ids}, {"attention_mask", mask({1, 2, 1})}}, "mamba", "expected values of 0 and 1");
  refused({{"input_ids", ids}, {"attention_mask", ids + 0.5}}, "mamba", "expected values of 0 and 1");
  refused({{"input_ids", ids}, {"attention_mask", mask({1, 0, 1})}}, "mamba", "expected padding at the ends of a row");
  refused({{"input_ids", ids.to(at::kFloat)}}, "mamba", "input_ids] expected integers");
  refused({{"input_ids", ids.eq(0)}}, "mamba", "input_ids] expected integers");
  refused({{"input_ids", ids}, {"pixel_values", at::zeros({1, 3, 31, 31})}}, "mamba",
          "[pixel_values] expected none for a language model alone, got [1, 3, 31, 31]");
  refused({{"input_ids", ids}, {"pixel_values", at::zeros({1, 3, 31, 31})}}, "clip",
          "[input_ids] expected none for an encoder alone");
  refused({{"pixel_values", at::zeros({1, 3, 31, 31}, at::kByte)}}, "clip", "expected normalised pixels");
  refused({{"pixel_values", at::zeros({1, 3, 31, 31}) / 0}}, "clip", "pixel_values] expected finite values");
  write_tensors(in, {{"input_ids", ids}});
  const auto layer = forward(checkpoint("mamba"), folder, {"--layer", "1"});
  EXPECT_EQ(layer.code, 2);
  EXPECT_THAT(layer.err, HasSubstr("[--layer] expected none for a language model"));
}

TEST(Forward, ADamagedCheckpointIsAnErrorOfWeights) {
  const Folder folder;
  write_tensors(folder / "in.safetensors", {{"input_ids", at::zeros({1, 3}, at::kLong)}});
  std::filesystem::copy(checkpoint("mamba_official"), folder / "model");
  std::string bytes = test::read(folder / "model/pytorch_model.bin");
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  test::write(folder / "model/pytorch_model.bin", bytes);
  const auto damaged = forward((folder / "model").string(), folder);
  EXPECT_EQ(damaged.code, 4);
  EXPECT_THAT(damaged.err, HasSubstr("expected data of its CRC"));
  test::write(folder / "model/config.json", R"({"model_type": "llama"})");
  const auto other = forward((folder / "model").string(), folder);
  EXPECT_EQ(other.code, 4);
  EXPECT_THAT(other.err, HasSubstr("model_type: expected clip"));
}

TEST(Generate, ContinuesIdsWithAnothersLanguageModel) {
  const std::string golden = checkpoint("gpt_neox") + "/golden.safetensors";
  const Tensor expected = stored(golden, "continuation");
  std::string ids;
  for (int64_t i = 0; i < expected.numel(); ++i)
    ids.append(i ? "," : "").append(std::to_string(expected[i].item<int64_t>()));
  const auto answer = test::vlmamba({"generate", "--checkpoint", checkpoint("gpt_neox"), "--prompt-ids", "5,9,12,3",
                                     "--max-new-tokens", "14", "--temperature", "0", "--print-ids"});
  EXPECT_EQ(answer.out, ids + "\n") << answer.err;
  EXPECT_EQ(test::vlmamba({"generate", "--checkpoint", checkpoint("clip"), "--prompt-ids", "1", "--print-ids"}).code,
            2);
  EXPECT_EQ(test::vlmamba({"generate", "--checkpoint", checkpoint("gpt_neox"), "--prompt", "hi"}).code, 2);
  const auto text = test::vlmamba({"generate", "--checkpoint", checkpoint("gpt_neox"), "--prompt-ids", "1"});
  EXPECT_EQ(text.code, 2);
  EXPECT_THAT(text.err, HasSubstr("[--prompt-ids] expected --print-ids too"));
  const auto none = test::vlmamba({"generate", "--checkpoint", checkpoint("gpt_neox"), "--prompt-ids", "1",
                                   "--print-ids", "--max-new-tokens", "0"});
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("--max-new-tokens: expected at least 1, got 0"));
}

TEST(Inspect, SaysWhatAnotherLibrarysFolderIs) {
  const auto mamba = test::vlmamba({"inspect", checkpoint("mamba_official")});
  EXPECT_EQ(mamba.code, 0);
  EXPECT_THAT(mamba.out, AllOf(HasSubstr("mamba_ssm's MambaLMHeadModel"), HasSubstr("torch, 33 tensors"),
                               HasSubstr("backbone.embedding.weight"), HasSubstr("F32")));
  EXPECT_THAT(test::vlmamba({"inspect", checkpoint("siglip")}).out,
              HasSubstr("Hugging Face's SiglipModel, vision part"));
  const auto file = test::vlmamba({"inspect", checkpoint("clip_vision") + "/model.safetensors"});
  EXPECT_THAT(file.out, HasSubstr("a CLIP encoder"));
}

TEST(Inspect, ControlCharactersOfAFileDoNotReachTheTerminal) {
  const Folder folder;
  const std::string path = (folder / "model.safetensors").string(), name = "a\033]0;x\a\u009bb\n";
  const float one = 1;
  io::write_file_atomically(path, io::to_safetensors({{name, "F32", {1}, &one, 4}}, {{"k\r", "\033[2J"}}));
  const auto shown = test::vlmamba({"inspect", path});
  EXPECT_THAT(shown.out, AllOf(HasSubstr(R"(a\x1b]0;x\x07\x9bb\x0a)"), HasSubstr(R"(metadata k\x0d: \x1b[2J)")));
  EXPECT_THAT(shown.out, testing::Not(HasSubstr("\033")));
  std::filesystem::copy(checkpoint("mamba"), folder / "mamba");
  std::filesystem::copy(path, folder / "mamba/model.safetensors", std::filesystem::copy_options::overwrite_existing);
  const auto refused =
      test::vlmamba({"generate", "--checkpoint", (folder / "mamba").string(), "--prompt-ids", "1", "--print-ids"});
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.err, HasSubstr(R"(unexpected   a\x1b]0;x\x07\x9bb\x0a [1])"));
  EXPECT_THAT(refused.err, testing::Not(HasSubstr("\033")));
}

TEST(Pretrained, PartsComeFromFoldersOfOthersAndFromOwnCheckpoints) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  auto config = app::read_run_config(tiny.config, {"output_dir=" + tiny.run("other"), "data_root=" + tiny.data});
  config.model.language_model.pretrained = tiny.run() + "/instruct/checkpoints/step_00000005";
  const auto loaded = app::load_checkpoint(tiny.run(), {});
  const auto model = build_model(config.model, 9);
  for (const auto& parameter : loaded.model->language_model->named_parameters())
    EXPECT_TRUE(at::equal(parameter.value(), model->language_model->named_parameters()[parameter.key()]));

  // LLaVA's names for an MLP.
  config.model.language_model.pretrained.clear();
  config.model.connector.kind = "mlp";
  const auto mlp = build_model(config.model, 10)->connector;
  auto p = mlp->named_parameters();
  config.model.connector.pretrained = (tiny.folder / "mm_projector.safetensors").string();
  NamedTensors llava;
  for (const auto& parameter : p) llava.emplace_back(formats::llava_connector_name(parameter.key()), parameter.value());
  EXPECT_EQ(llava.front().first, "model.mm_projector.0.weight");
  write_tensors(config.model.connector.pretrained, llava);
  const auto again = build_model(config.model, 11)->connector;
  for (const auto& parameter : again->named_parameters()) EXPECT_TRUE(at::equal(parameter.value(), p[parameter.key()]));
}

}  // namespace
}  // namespace vlmamba
