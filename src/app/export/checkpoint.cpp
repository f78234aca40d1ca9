#include <filesystem>

#include "src/app/export/export.h"
#include "src/app/export/lora.h"
#include "src/app/export/modeling.h"
#include "src/app/export/weight_folder.h"
#include "vlmamba/app/build.h"
#include "vlmamba/app/run_config.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/weights/torch_file.h"
#include "vlmamba/model/formats/foreign.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;
using io::Json;

constexpr const char* kWeights = "/model.safetensors";
constexpr std::string_view kLanguage = "language_model.";

void write_json(const std::string& path, const Json& json) {
  io::write_file_atomically(path, json.to_string(2) + "\n");
}

const Json& object(const Json& json, const char* key, const std::string& where) {
  return io::require(json, key, Json::Kind::kObject, where, ExitCode::kWeights);
}

// config.json for transformers, with all of ours inside.
Json whole_config(const Json& config, const Json& state, const ModelConfig& model) {
  Json ours = Json::object(), classes = Json::array(), code = Json::object(), json = Json::object();
  classes.push("VlMambaModel");
  code.set("AutoConfig", "modeling_vl_mamba.VlMambaConfig");
  for (const char* name : {"AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText"})
    code.set(name, "modeling_vl_mamba.VlMambaModel");
  ours.set("config", config);
  ours.set("state", state);
  json.set("architectures", std::move(classes));
  json.set("model_type", "vl_mamba");
  json.set("auto_map", std::move(code));
  json.set("dtype", "float32");
  json.set("vision_config", vision_config(model.vision_encoder));
  json.set("text_config", language_config(model.language_model));
  json.set("vl_mamba", std::move(ours));
  return json;
}

Json tokenizer_config() {
  Json json = Json::object();
  json.set("tokenizer_class", "PreTrainedTokenizerFast");
  json.set("eos_token", "<|endoftext|>");
  json.set("clean_up_tokenization_spaces", false);
  return json;
}

// Whether transformers' own class computes what ours does.
bool stands_alone(const LanguageModelConfig& config) {
  return config.kind != LanguageKind::kMamba2 || config.mamba2.norm_groups == 1;
}

std::string model_card(const RunConfig& config, const Json& state) {
  const ModelConfig& model = config.model;
  const auto text = [](const Json& json, const char* key) {
    const Json* value = json.find(key);
    return !value ? "?" : value->is_string() ? value->as_string() : value->to_string();
  };
  return "---\nlibrary_name: transformers\npipeline_tag: image-text-to-text\ntags: [vl-mamba, mamba]\n---\n\n"
         "# VL-Mamba\n\nA " +
         std::string(enum_name(model.vision_encoder.kind)) + " vision encoder, a " + model.connector.kind +
         " connector and a " + std::string(enum_name(model.language_model.kind)) + " language model of " +
         std::to_string(model.language_model.hidden_size) + " channels, after step " + text(state, "step") +
         " of stage `" + text(state, "stage") +
         "`.\n\n```python\nfrom transformers import AutoModel, AutoTokenizer\n"
         "tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)\n"
         "model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True)    # pictures and text\n"
         "logits = model(input_ids=ids, pixel_values=pixels).logits            # -200 in ids: a picture\n```\n\n" +
         std::string(stands_alone(model.language_model) ? "The language model alone is in `language_model/` and loads "
                                                          "with `AutoModelForCausalLM`. "
                                                        : "") +
         "`vlmamba convert --to checkpoint` makes a checkpoint of the C++ program of this folder. Pictures go through "
         "`preprocessor_config.json`" +
         std::string(config.image_processor.mode == ImageMode::kPad ? ", after padding to a square on the mean's colour"
                                                                    : "") +
         ". How prompts look is in `config.json`, `vl_mamba.config.prompt`.\n";
}

void export_language_model(const io::WeightFiles& files, const Json& config, const std::string& from,
                           const std::string& output) {
  fs::create_directories(output);
  write_json(output + "/config.json", config);
  write_json(output + "/tokenizer_config.json", tokenizer_config());
  copy_files(from, output, {"tokenizer.json"});
  write_safetensors(files, output + kWeights, [](const std::string& name) -> std::optional<std::string> {
    if (!name.starts_with(kLanguage)) return std::nullopt;
    return name.substr(kLanguage.size());
  });
}

// A checkpoint that is as load_checkpoint wants it.
struct Checked {
  Json json, state;  // its config and where training stood, as they are written
  RunConfig config;
  io::WeightFiles files;
};

int64_t step_of(const Json& state, const std::string& where) {
  io::require(state, "stage", Json::Kind::kString, where, ExitCode::kWeights);
  const int64_t step = io::require(state, "step", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer();
  if (step < 0) throw Error(ExitCode::kWeights, where, "step: expected at least 0, got " + std::to_string(step));
  return step;
}

// `weights` may be a folder of files of any format.
Checked check(const Json& config, const Json& state, const std::string& folder, const std::string& weights,
              const Extensions& extensions) try {
  Checked checked{config, state, io::from_json<RunConfig>(config, folder + "/config.json"), io::WeightFiles(weights)};
  step_of(state, folder);
  check_checkpoint(checked.config, state.find("stage")->as_string(), Tokenizer::load(folder + "/tokenizer.json"),
                   checked.files, extensions);
  return checked;
} catch (const Error& error) {  // a config that comes with weights is theirs
  if (error.code() != ExitCode::kUsage) throw;
  throw Error(ExitCode::kWeights, error.what());
}

Checked check_step(const std::string& folder, const Extensions& extensions) {
  io::verify_checkpoint(folder);
  return check(io::read_json(folder + "/config.json", ExitCode::kWeights, /*comments=*/true),
               io::read_json(folder + "/state.json", ExitCode::kWeights), folder, folder, extensions);
}

}  // namespace

void export_checkpoint(const std::string& from, const std::string& output, const Extensions& extensions) {
  const Checked checkpoint = check_step(from, extensions);
  const OutputFolder made(output);
  warn_of_non_finite(checkpoint.files);
  copy_files(from, made.path(), {"tokenizer.json"});
  if (has_lora(checkpoint.files))
    write_with_lora_merged(checkpoint.files, checkpoint.config, checkpoint.state, made.path() + kWeights);
  else
    write_safetensors(checkpoint.files, made.path() + kWeights,
                      [](const std::string& name) { return std::optional(name); });
  const io::WeightFiles merged(made.path() + kWeights);
  write_json(made.path() + "/tokenizer_config.json", tokenizer_config());
  write_json(made.path() + "/preprocessor_config.json", preprocessor_config(checkpoint.config.image_processor));
  io::write_file_atomically(made.path() + "/modeling_vl_mamba.py", kModelingPython);
  io::write_file_atomically(made.path() + "/README.md", model_card(checkpoint.config, checkpoint.state));
  const ModelConfig& model = checkpoint.config.model;
  if (stands_alone(model.language_model))
    export_language_model(merged, language_config(model.language_model), from, made.path() + "/language_model");
  write_json(made.path() + "/config.json", whole_config(checkpoint.json, checkpoint.state, model));
  made.finish();
}

std::optional<io::Json> exported_part(const std::string& folder) {
  const std::string path = folder + "/config.json";
  if (!fs::is_regular_file(path) || fs::exists(folder + "/manifest.json")) return std::nullopt;
  const Json json = io::read_json(path, ExitCode::kWeights, /*comments=*/true);
  const Json* ours = json.is_object() ? json.find("vl_mamba") : nullptr;
  if (ours == nullptr) return std::nullopt;
  for (const char* part : {"config", "state"}) object(*ours, part, path);
  return *ours;
}

void export_llava_projector(const std::string& from, const std::string& output, const Extensions& extensions) {
  constexpr std::string_view kConnector = "connector.";
  const Checked checkpoint = check_step(from, extensions);
  const std::string& kind = checkpoint.config.model.connector.kind;
  if (kind != "mlp")
    throw Error(ExitCode::kWeights, from + "/config.json",
                "model.connector.kind: expected mlp, the one that LLaVA knows, got " + kind);
  const RenamedTensors tensors(checkpoint.files, [&](const std::string& name) -> std::optional<std::string> {
    if (!name.starts_with(kConnector)) return std::nullopt;
    if (name.find(".lora_") != std::string::npos)
      throw Error(ExitCode::kWeights, checkpoint.files.path() + ": " + name,
                  "expected a connector without LoRA; convert --to hf merges it");
    return formats::llava_connector_name(name.substr(kConnector.size()));
  });
  const OutputFolder made(output);
  io::write_file_atomically(made.path() + "/mm_projector.bin", io::to_torch_file(tensors.views));
  checkpoint.files.check_unchanged();
  made.finish();
}

void import_checkpoint(const std::string& from, const std::string& output, const Extensions& extensions) {
  const std::string where = from + "/config.json", tokenizer = from + "/tokenizer.json";
  const Json json = io::read_json(where, ExitCode::kWeights);
  const Json& ours = object(json, "vl_mamba", where);
  const Json &config = object(ours, "config", where), &state = object(ours, "state", where);
  const Checked checkpoint = check(config, state, from, from, extensions);
  const OutputFolder made(output);
  warn_of_non_finite(checkpoint.files);
  // Trained on in Python, the weights may lie in shards, or in files of torch.save.
  const std::string whole = from + kWeights, place = made.path() + "/checkpoint";
  io::write_checkpoint(
      place, {{{"config.json", io::content_of(config.to_string(2) + "\n")},
               {"state.json", io::content_of(state.to_string(2) + "\n")},
               {"tokenizer.json", io::content_of(io::read_file(tokenizer, ExitCode::kWeights))},
               {"model.safetensors", io::content_of(fs::exists(whole) ? io::read_file(whole, ExitCode::kWeights)
                                                                      : safetensors_bytes(checkpoint.files))}},
              {}});
  made.finish(place);
}

}  // namespace vlmamba::app
