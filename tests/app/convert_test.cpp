#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "tests/app/tiny_run.h"
#include "tests/io/faulty_disk.h"
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

TEST(Convert, AnExportedCheckpointComesBackBitForBit) {
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
  for (const char* file : {"config.json", "tokenizer.json", "state.json"})
    EXPECT_EQ(read(back + "/" + file), read(step + "/" + file)) << file;
  const io::WeightFiles again(back);
  ASSERT_EQ(again.tensors().size(), whole.tensors().size());
  for (const auto& tensor : whole.tensors()) EXPECT_EQ(bytes_of(again, tensor.name), bytes_of(whole, tensor.name));
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

// A copy of a checkpoint that an original library wrote.
std::string copy_of(const std::string& name, const test::Folder& folder, const std::string& as) {
  const std::string to = (folder / as).string();
  test::fs::copy(std::string(VLMAMBA_SOURCE_DIR) + "/tests/parity/data/" + name, to);
  test::fs::remove(to + "/golden.safetensors");
  return to;
}

// A config with one value in the place of another.
void change(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read(path);
  const auto at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  test::write(path, text.replace(at, from.size(), to));
}

std::vector<std::string> files_in(const test::fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : test::fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string continuation(const std::string& checkpoint) {
  return test::vlmamba({"generate", "--checkpoint", checkpoint, "--prompt-ids", "5,9,12,3", "--max-new-tokens", "14",
                        "--temperature", "0", "--print-ids"})
      .out;
}

void expect_same_tensors(const std::string& one, const std::string& other) {
  const io::WeightFiles a(one), b(other);
  EXPECT_EQ(a.tensors().size(), b.tensors().size());
  for (const auto& tensor : a.tensors()) EXPECT_EQ(bytes_of(a, tensor.name), bytes_of(b, tensor.name)) << tensor.name;
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

TEST(Convert, AMambaOfMambaSsmComesBackAsItWas) {
  for (const char* name : {"mamba_official", "mamba2_official"}) {
    const test::Folder folder;
    const std::string official = copy_of(name, folder, "official"), hf = (folder / "hf").string(),
                      back = (folder / "back").string();
    const auto outcome = convert(official, hf, "hf");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(continuation(hf), continuation(official));
    const io::WeightFiles first(official), second(hf);
    EXPECT_EQ(second.find("lm_head.weight"), nullptr);  // it is the embedding
    EXPECT_EQ(bytes_of(second, "backbone.embeddings.weight"), bytes_of(first, "backbone.embedding.weight"));

    ASSERT_EQ(convert(hf, back, "official").code, 0);
    EXPECT_EQ(io::WeightFiles(back).format(), "torch");
    expect_same_tensors(official, back);
    EXPECT_EQ(read(back + "/config.json"), read(official + "/config.json"));
    EXPECT_EQ(continuation(back), continuation(official));
  }
}

TEST(Convert, AMambaOfTransformersComesBackAsItWas) {
  for (const char* name : {"mamba", "mamba_biases", "mamba2_tied"}) {
    const test::Folder folder;
    const std::string hf = copy_of(name, folder, "hf"), official = (folder / "official").string(),
                      back = (folder / "back").string(), config = hf + "/config.json";
    if (name == std::string("mamba_biases"))
      change(config, "\"layer_norm_epsilon\": 0.001", "\"layer_norm_epsilon\": 1e-05");
    change(config, "\"residual_in_fp32\": true", "\"residual_in_fp32\": false");
    change(config, "\"eos_token_id\": 0", "\"eos_token_id\": [3, 11]");
    test::fs::remove(hf + "/generation_config.json");
    const auto outcome = convert(hf, official, "official");
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(continuation(official), continuation(hf));  // ends with the same ids
    EXPECT_THAT(read(official + "/config.json"), HasSubstr("\"residual_in_fp32\": false"));
    ASSERT_EQ(convert(official, back, "hf").code, 0);
    expect_same_tensors(hf, back);
    EXPECT_EQ(read(back + "/config.json"), read(config));
    EXPECT_EQ(continuation(back), continuation(hf));
  }
}

TEST(Convert, RefusesWhatTheOtherFormatCannotSay) {
  const test::Folder folder;
  const std::string out = (folder / "out").string();
  const auto refused = [&](const std::string& input, const std::string& to, const std::string& expected) {
    const auto outcome = convert(input, out, to);
    EXPECT_EQ(outcome.code, 4) << expected;
    EXPECT_THAT(outcome.err, HasSubstr(expected));
    EXPECT_FALSE(test::fs::exists(out)) << expected;
  };
  refused(copy_of("mamba_biases", folder, "eps"), "official", "layer_norm_epsilon: expected 1e-05, the only one");
  refused(copy_of("mamba2", folder, "groups"), "official", "groups: expected 1");
  refused(copy_of("clip", folder, "clip"), "hf", "got Hugging Face's CLIPModel, vision part");
  refused(copy_of("gpt_neox", folder, "neox"), "official", "got Hugging Face's GPTNeoXForCausalLM");
  refused((folder / "neox").string(), "hf", "expected a Mamba of mamba_ssm, or a checkpoint of this program");
  refused(copy_of("mamba_official", folder, "ssm"), "official", "got mamba_ssm's MambaLMHeadModel");
  const std::string hf = copy_of("mamba", folder, "relu");
  change(hf + "/config.json", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"");
  refused(hf, "official", "hidden_act: expected silu, got \"relu\"");
}

TEST(Convert, AConfigThatIsNotTheWeightsIsAnErrorAndLeavesNothing) {
  struct Case {
    std::string from, to, expected;
  };
  for (const auto& [from, to, expected] : std::vector<Case>{
           {"\"n_layer\": 3", "\"n_layer\": -1", "n_layer: expected a whole number"},
           {"\"n_layer\": 3", "\"n_layer\": 7", "missing      backbone.layers.3."},
           {"\"d_model\": 14", "\"d_model\": 15", "wrong shape"},
           {"\"d_model\": 14", "\"d_model\": \"14\"", "d_model: expected a whole number"},
           {"\"ssm_cfg\": {", "\"ssm_cfg\": 5, \"other\": {", "ssm_cfg: expected an object"},
           {"\"d_conv\": 3", "\"d_conv\": 3, \"expand\": 2.5", "expand: expected a whole number"},
           {"\"d_conv\": 3", "\"d_conv\": 0", "d_conv: expected at least 1"},
           {"\"dt_rank\": 3", "\"dt_rank\": \"three\"", "dt_rank: expected \"auto\" or a number"},
           {"\"rms_norm\": true", "\"rms_norm\": 1", "rms_norm: expected true or false"},
           {"\"vocab_size\": 37", "\"vocab_size\": 57", "wrong shape"},
           {"{", "{\"tie_embeddings\": false,", ""},
           {"\"residual_in_fp32\": true", "\"residual_in_fp32\": 0", "residual_in_fp32: expected true or false"}}) {
    const test::Folder folder;
    const std::string official = copy_of("mamba_official", folder, "official"), out = (folder / "out").string();
    change(official + "/config.json", from, to);
    const auto outcome = convert(official, out, "hf");
    if (expected.empty()) {
      EXPECT_EQ(outcome.code, 0) << outcome.err;  // the head is in the file
      continue;
    }
    EXPECT_EQ(outcome.code, 4) << to;
    EXPECT_THAT(outcome.err, HasSubstr(expected));
    EXPECT_EQ(files_in(folder / ""), std::vector<std::string>{"official"}) << to;
    EXPECT_EQ(convert(official, out, "safetensors").code, 4) << to;
  }
}

TEST(Convert, ADiskThatFillsUpIsLeftAsItWas) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official");
  {
    const test::FaultyDisk full(1, ENOSPC, /*lasting=*/true, "config.json");
    const auto outcome = convert(official, (folder / "out").string(), "hf");
    EXPECT_EQ(outcome.code, 6) << outcome.err;
    EXPECT_TRUE(full.failed());
  }
  EXPECT_EQ(files_in(folder / ""), std::vector<std::string>{"official"});
}

TEST(Convert, ATiedHeadWithOtherValuesIsAnError) {
  const test::Folder folder;
  const std::string hf = copy_of("mamba_biases", folder, "hf"), official = (folder / "official").string(),
                    out = (folder / "out").string();
  change(hf + "/config.json", "\"layer_norm_epsilon\": 0.001", "\"layer_norm_epsilon\": 1e-05");
  ASSERT_EQ(convert(hf, official, "official").code, 0);
  change(hf + "/config.json", "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
  change(official + "/config.json", "\"tie_embeddings\": false", "\"tie_embeddings\": true");
  for (const auto& [input, to] : {std::pair(hf, "official"), {official, "hf"}}) {
    const auto outcome = convert(input, out, to);
    EXPECT_EQ(outcome.code, 4);
    EXPECT_THAT(outcome.err, HasSubstr("expected the embedding again"));
  }
}

TEST(Convert, AKeptConfigMustStillHold) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official"), hf = (folder / "hf").string(),
                    kept = hf + "/config.mamba_ssm.json", out = (folder / "out").string();
  ASSERT_EQ(convert(official, hf, "hf").code, 0);
  for (const auto& [text, expected] :
       {std::pair("5", "model_type"),
        {R"({"model_type": "clip"})", "expected the config of a Mamba as it was"},
        {R"({"d_model": 14, "n_layer": 3, "vocab_size": 37, "ssm_cfg": {"d_state": 6, "d_conv": 3, "dt_rank": 3}})",
         "d_state: the config says 5"}}) {
    test::write(kept, text);
    const auto outcome = convert(hf, out, "official");
    EXPECT_EQ(outcome.code, 4);
    EXPECT_THAT(outcome.err, HasSubstr(expected));
    EXPECT_FALSE(test::fs::exists(out));
  }
}

TEST(Convert, NamesThatMeanOneTensorAreAnError) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official");
  const io::WeightFiles before(official);
  std::vector<io::TensorView> views;
  for (const auto& tensor : before.tensors()) {
    views.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.data(), tensor.end - tensor.begin});
    if (tensor.name != "backbone.embedding.weight") continue;
    views.push_back(views.back());
    views.back().name = "backbone.embeddings.weight";
  }
  test::write(official + "/pytorch_model.bin", io::to_torch_file(views));
  const auto outcome = convert(official, (folder / "out").string(), "hf");
  EXPECT_EQ(outcome.code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("twice        backbone.embeddings.weight"));
}

TEST(Convert, NaNIsKeptAndNamed) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official"), out = (folder / "out").string(),
                    in = (folder / "in.safetensors").string();
  const io::WeightFiles before(official);
  std::vector<io::TensorView> views;
  const std::vector<float> none(14, std::numeric_limits<float>::quiet_NaN());
  for (const auto& tensor : before.tensors()) {
    views.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.data(), tensor.end - tensor.begin});
    if (tensor.name == "backbone.norm_f.weight") views.back().data = none.data();
  }
  test::write(official + "/pytorch_model.bin", io::to_torch_file(views));
  const auto converted = convert(official, out, "hf");
  EXPECT_EQ(converted.code, 0);
  EXPECT_THAT(converted.err, HasSubstr("warning: "));
  EXPECT_THAT(converted.err, HasSubstr("NaN or infinity among the weights, first in backbone.norm_f.weight"));
  EXPECT_EQ(bytes_of(io::WeightFiles(out), "backbone.norm_f.weight"),
            std::string(reinterpret_cast<const char*>(none.data()), 56));

  const std::vector<int64_t> ids{1, 2, 3};
  test::write(in, io::to_safetensors({{"input_ids", "I64", {1, 3}, ids.data(), 24}}, {}));
  const auto forward =
      test::vlmamba({"forward", "--checkpoint", out, "--input", in, "--output", (folder / "y").string()});
  EXPECT_EQ(forward.code, 5);
  EXPECT_THAT(forward.err,
              HasSubstr("logits] expected finite values, got NaN or infinity at 3 of 3 positions; the weights "
                        "hold NaN or infinity, first in backbone.norm_f.weight"));
  EXPECT_TRUE(test::fs::exists(folder / "y"));  // to be looked at
  const auto generated = test::vlmamba({"generate", "--checkpoint", official, "--prompt-ids", "1", "--print-ids"});
  EXPECT_EQ(generated.code, 5);
  EXPECT_THAT(generated.err, HasSubstr("first in backbone.norm_f.weight"));
}

TEST(Convert, AnyWeightsBecomeSafetensors) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official");
  for (const auto& input : {official, official + "/pytorch_model.bin"}) {
    const std::string out = (folder / ("out" + std::to_string(input.size()))).string();
    ASSERT_EQ(convert(input, out, "safetensors").code, 0);
    EXPECT_EQ(io::WeightFiles(out).format(), "safetensors");
    expect_same_tensors(official, out);
  }
}

TEST(Convert, RefusesWhatItCannotDo) {
  const test::Folder folder;
  const std::string official = copy_of("mamba_official", folder, "official"), out = (folder / "out").string();
  const auto unknown = convert(official, out, "onnx");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("llava-projector"));
  EXPECT_EQ(convert(official, folder.text(), "hf").code, 2);  // not empty
  EXPECT_THAT(convert(official, out, "checkpoint").err, HasSubstr("expected the key \"vl_mamba\""));
  EXPECT_EQ(convert((folder / "nothing").string(), out, "hf").code, 4);
  test::write(official + "/tokenizer.json", "{}");
  EXPECT_EQ(convert(official, out, "hf").code, 4);
  EXPECT_EQ(files_in(folder / ""), std::vector<std::string>{"official"});
  test::fs::remove(official + "/tokenizer.json");
  test::fs::create_directories(out);  // an empty one is taken
  EXPECT_EQ(convert(official, out + "/", "hf").code, 0);
}

// What an exported folder holds of ours is checked as a checkpoint is.
TEST(Convert, AnExportedFolderThatWasChangedMustStillBeAModel) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string hf = tiny.run("hf"), back = tiny.run("back"), config = hf + "/config.json";
  ASSERT_EQ(convert(tiny.run(), hf, "hf").code, 0);
  const std::string run_refused = convert(tiny.run(), back, "safetensors").err;
  EXPECT_THAT(run_refused, HasSubstr("got a run, whose checkpoints hold model.safetensors already"));
  const std::string good = read(config), weights = read(hf + "/model.safetensors");
  const auto refused = [&](const std::string& expected) {
    const auto outcome = convert(hf, back, "checkpoint");
    EXPECT_EQ(outcome.code, 4) << expected;
    EXPECT_THAT(outcome.err, HasSubstr(expected));
    EXPECT_FALSE(test::fs::exists(back)) << expected;
    test::write(config, good);
    test::write(hf + "/model.safetensors", weights);
  };
  for (const auto& [from, to, expected] : std::vector<std::tuple<std::string, std::string, std::string>>{
           {"\"seed\": 3", "\"sede\": 3", "unknown key"},
           {"\"d_state\": 4", "\"d_state\": \"4\"", "d_state: expected an integer"},
           {"\"step\": 5", "\"step\": -5", "step: expected at least 0"},
           {"\"vocab_size\": 465", "\"vocab_size\": 480", "wrong shape"}}) {
    // The config of ours stands behind those of transformers.
    std::string text = good;
    const auto ours = text.find("\"vl_mamba\": {"), at = text.find(from, ours);
    ASSERT_NE(at, std::string::npos) << from;
    test::write(config, text.replace(at, from.size(), to));
    refused(expected);
  }
  const float one = 1;
  test::write(hf + "/model.safetensors", io::to_safetensors({{"a", "F32", {1}, &one, 4}}, {}));
  refused("unexpected   a [1]");
  EXPECT_EQ(convert(hf, back, "checkpoint").code, 0);
}

}  // namespace
}  // namespace vlmamba
