#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "tests/app/tiny_run.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/torch_file.h"
#include "vlmamba/io/weights/weight_files.h"

namespace vlmamba {
namespace {

using test::read;
using test::TinyRun;
using testing::HasSubstr;

test::Outcome convert(const std::string& input, const std::string& output, const std::string& to) {
  return test::vlmamba({"convert", "--input", input, "--output", output, "--to", to});
}

std::string bytes_of(const io::WeightFiles& files, const std::string& name) {
  const auto* tensor = files.find(name);
  if (tensor == nullptr) return "no " + name;
  return {reinterpret_cast<const char*>(tensor->data()), tensor->end - tensor->begin};
}

TEST(Convert, AnExportedCheckpointComesBackByteForByte) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string step = tiny.run() + "/instruct/checkpoints/step_00000005", out = tiny.run("hf");
  const auto outcome = convert(tiny.run(), out, "hf");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  for (const char* file :
       {"config.json", "modeling_vl_mamba.py", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "preprocessor_config.json", "README.md", "language_model/config.json", "language_model/model.safetensors"})
    EXPECT_TRUE(test::fs::exists(out + "/" + file)) << file;
  EXPECT_EQ(read(out + "/modeling_vl_mamba.py"),
            read(std::string(VLMAMBA_SOURCE_DIR) + "/src/app/export/modeling_vl_mamba.py"));
  const io::WeightFiles whole(step), language(out + "/language_model");
  EXPECT_EQ(bytes_of(language, "backbone.layers.0.mixer.A_log"),
            bytes_of(whole, "language_model.backbone.layers.0.mixer.A_log"));
  EXPECT_EQ(language.find("vision_encoder.embeddings.patch_embedding.weight"), nullptr);

  EXPECT_THAT(test::vlmamba({"inspect", out}).out, HasSubstr("a model of vlmamba"));
  EXPECT_THAT(
      test::vlmamba({"forward", "--checkpoint", out, "--input", out + "/model.safetensors", "--output", "x"}).err,
      HasSubstr("expected pixel_values, input_ids and attention_mask"));
  const auto hint = test::vlmamba({"generate", "--checkpoint", out, "--prompt", "hi"});
  EXPECT_EQ(hint.code, 4);
  EXPECT_THAT(hint.err, HasSubstr("vlmamba convert --to checkpoint"));

  const std::string back = tiny.run("back");
  ASSERT_EQ(convert(out, back, "checkpoint").code, 0);
  for (const char* file : {"model.safetensors", "config.json", "tokenizer.json", "state.json"})
    EXPECT_EQ(read(back + "/" + file), read(step + "/" + file)) << file;
  const auto ask = [](const std::string& checkpoint) {
    return test::vlmamba({"generate", "--checkpoint", checkpoint, "--prompt", "hi", "--print-ids"}).out;
  };
  EXPECT_EQ(ask(back), ask(tiny.run()));
}

TEST(Convert, AnMlpConnectorBecomesLlavasProjectorAndIsReadAgain) {
  const TinyRun tiny;
  EXPECT_EQ(tiny.train({"model.connector.kind=mlp"}).code, 0);
  const std::string step = tiny.run() + "/instruct/checkpoints/step_00000005", out = tiny.run("llava");
  const auto outcome = convert(tiny.run(), out, "llava-projector");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::string path = out + "/mm_projector.bin";
  const io::WeightFiles ours(step), projector(path);
  EXPECT_EQ(projector.format(), "torch");
  ASSERT_EQ(projector.tensors().size(), 4u);
  for (const auto& [llava, name] : {std::pair("0.weight", "fc1.weight"),
                                    {"0.bias", "fc1.bias"},
                                    {"2.weight", "fc2.weight"},
                                    {"2.bias", "fc2.bias"}})
    EXPECT_EQ(bytes_of(projector, std::string("model.mm_projector.") + llava),
              bytes_of(ours, std::string("connector.") + name));
  EXPECT_THAT(test::vlmamba({"inspect", path}).out, HasSubstr("a connector of LLaVA"));
  EXPECT_EQ(tiny.train({"model.connector.kind=mlp", "model.connector.pretrained=" + path}, "again").code, 0);

  ASSERT_EQ(tiny.train({}, "scan").code, 0);
  const auto refused = convert(tiny.run("scan"), tiny.run("none"), "llava-projector");
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.err, HasSubstr("model.connector.kind: expected mlp, the one that LLaVA knows, got vss_l2"));
}

// A Mamba of one layer in mamba_ssm's format, with the head that it stores twice.
void make_official(const std::string& folder) {
  test::write(folder + "/config.json", R"({"d_model": 4, "n_layer": 1, "vocab_size": 7, "ssm_cfg": {"d_state": 3},
    "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true, "pad_vocab_size_multiple": 8})");
  test::write(folder + "/tokenizer.json", "{}");
  std::vector<float> values(64);
  std::iota(values.begin(), values.end(), 0.0f);
  const auto view = [&](const std::string& name, const std::vector<int64_t>& shape, size_t first) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return io::TensorView{name, "F32", shape, values.data() + first, static_cast<size_t>(count) * sizeof(float)};
  };
  test::write(
      folder + "/pytorch_model.bin",
      io::to_torch_file({view("backbone.embedding.weight", {8, 4}, 0), view("backbone.norm_f.weight", {4}, 32),
                         view("backbone.layers.0.mixer.A_log", {8, 3}, 36), view("lm_head.weight", {8, 4}, 0)}));
}

TEST(Convert, AnExportedFolderIsKnownForWhatItIs) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string out = tiny.run("hf");
  ASSERT_EQ(convert(tiny.run(), out, "hf").code, 0);
  const auto inspected = test::vlmamba({"inspect", out});
  EXPECT_EQ(inspected.code, 0) << inspected.err;
  EXPECT_THAT(inspected.out, testing::HasSubstr("a model of vlmamba, exported for transformers"));
  EXPECT_THAT(inspected.out, testing::HasSubstr("connector       vss_l2"));
  const auto refused = test::vlmamba({"generate", "--checkpoint", out, "--prompt", "q"});
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.err, testing::HasSubstr("vlmamba convert --to checkpoint"));
}

TEST(Convert, AMambaChangesItsFormatAndComesBack) {
  const test::Folder folder;
  const std::string official = (folder / "official").string(), hf = (folder / "hf").string(),
                    back = (folder / "back").string();
  make_official(official);
  const auto outcome = convert(official, hf, "hf");
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto config = io::read_json(hf + "/config.json", ExitCode::kWeights);
  EXPECT_EQ(config.find("model_type")->as_string(), "mamba");
  EXPECT_EQ(config.find("vocab_size")->as_integer(), 8);
  EXPECT_EQ(config.find("state_size")->as_integer(), 3);
  EXPECT_EQ(config.find("time_step_rank")->as_integer(), 1);
  const io::WeightFiles first(official), second(hf);
  EXPECT_EQ(second.tensors().size(), 3u);  // the head is the embedding
  EXPECT_EQ(bytes_of(second, "backbone.embeddings.weight"), bytes_of(first, "backbone.embedding.weight"));
  EXPECT_TRUE(test::fs::exists(hf + "/tokenizer.json"));

  ASSERT_EQ(convert(hf, back, "official").code, 0);
  const io::WeightFiles third(back);
  EXPECT_EQ(third.format(), "torch");
  ASSERT_EQ(third.tensors().size(), first.tensors().size());
  for (const auto& tensor : first.tensors()) EXPECT_EQ(bytes_of(third, tensor.name), bytes_of(first, tensor.name));
  EXPECT_EQ(io::read_json(back + "/config.json", ExitCode::kWeights).to_string(),
            io::read_json(official + "/config.json", ExitCode::kWeights).to_string());
}

TEST(Convert, AnyWeightsBecomeSafetensors) {
  const test::Folder folder;
  const std::string official = (folder / "official").string(), out = (folder / "out").string();
  make_official(official);
  ASSERT_EQ(convert(official + "/pytorch_model.bin", out, "safetensors").code, 0);
  const io::WeightFiles before(official), after(out);
  EXPECT_EQ(after.format(), "safetensors");
  ASSERT_EQ(after.tensors().size(), 4u);
  for (const auto& tensor : before.tensors()) EXPECT_EQ(bytes_of(after, tensor.name), bytes_of(before, tensor.name));
}

TEST(Convert, RefusesWhatItCannotDo) {
  const test::Folder folder;
  const std::string official = (folder / "official").string(), out = (folder / "out").string();
  make_official(official);
  const auto unknown = convert(official, out, "onnx");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("llava-projector"));
  EXPECT_EQ(convert(official, folder.text(), "hf").code, 2);  // not empty
  EXPECT_THAT(convert(official, out, "official").err, HasSubstr("expected the config of transformers"));
  EXPECT_THAT(convert(official, out, "checkpoint").err, HasSubstr("expected the key \"vl_mamba\""));
  EXPECT_EQ(convert((folder / "nothing").string(), out, "hf").code, 4);
  test::write(official + "/config.json", R"({"d_model": 4, "n_layer": 1, "ssm_cfg": {"layer": "Mamba2"}})");
  EXPECT_THAT(convert(official, out, "hf").err, HasSubstr("ssm_cfg.layer: expected Mamba1, got Mamba2"));
}

}  // namespace
}  // namespace vlmamba
