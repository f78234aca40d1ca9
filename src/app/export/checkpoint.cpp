#include <filesystem>

#include "src/app/export/export.h"
#include "src/app/export/modeling.h"
#include "src/app/export/weight_folder.h"
#include "vlmamba/app/run_config.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/weights/torch_file.h"
#include "vlmamba/model/formats/foreign.h"

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

}  // namespace

void export_checkpoint(const std::string& from, const std::string& output) {
  io::verify_checkpoint(from);
  const std::string where = from + "/config.json";
  const auto config = io::read_config<RunConfig>(where, {});
  const Json state = io::read_json(from + "/state.json", ExitCode::kWeights);
  const io::WeightFiles files(from + kWeights);
  make_output_folder(output);
  copy_files(from, output, {"model.safetensors", "tokenizer.json"});
  write_json(output + "/tokenizer_config.json", tokenizer_config());
  write_json(output + "/preprocessor_config.json", preprocessor_config(config.image_processor));
  io::write_file_atomically(output + "/modeling_vl_mamba.py", kModelingPython);
  io::write_file_atomically(output + "/README.md", model_card(config, state));
  const LanguageModelConfig& language = config.model.language_model;
  if (stands_alone(language)) export_language_model(files, language_config(language), from, output + "/language_model");
  write_json(output + "/config.json", whole_config(io::read_json(where, ExitCode::kWeights), state, config.model));
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

void export_llava_projector(const std::string& from, const std::string& output) {
  constexpr std::string_view kConnector = "connector.";
  io::verify_checkpoint(from);
  const std::string where = from + "/config.json";
  const std::string kind = io::read_config<RunConfig>(where, {}).model.connector.kind;
  if (kind != "mlp")
    throw Error(ExitCode::kWeights, where, "model.connector.kind: expected mlp, the one that LLaVA knows, got " + kind);
  const io::WeightFiles files(from + kWeights);
  const RenamedTensors tensors(files, [&](const std::string& name) -> std::optional<std::string> {
    if (!name.starts_with(kConnector)) return std::nullopt;
    return formats::llava_connector_name(name.substr(kConnector.size()));
  });
  make_output_folder(output);
  io::write_file_atomically(output + "/mm_projector.bin", io::to_torch_file(tensors.views));
  files.check_unchanged();
}

void import_checkpoint(const std::string& from, const std::string& output) {
  const std::string where = from + "/config.json";
  const Json json = io::read_json(where, ExitCode::kWeights);
  const Json& ours = object(json, "vl_mamba", where);
  const Json &config = object(ours, "config", where), &state = object(ours, "state", where);
  const int64_t step = io::require(state, "step", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer();
  const io::WeightFiles files(from);
  make_output_folder(output);
  if (fs::exists(from + kWeights))
    copy_files(from, output, {"model.safetensors"});
  else
    write_safetensors(files, output + kWeights, [](const std::string& name) { return std::optional(name); });
  const auto bytes_of = [](const std::string& path) {
    return [path] { return io::read_file(path, ExitCode::kWeights); };
  };
  const io::CheckpointFolder checkpoints(output + "/checkpoints");
  checkpoints.write(step,
                    {{"config.json", [&] { return config.to_string(2) + "\n"; }},
                     {"state.json", [&] { return state.to_string(2); }},
                     {"tokenizer.json", bytes_of(from + "/tokenizer.json")},
                     {"model.safetensors", bytes_of(output + kWeights)}},
                    0);
  for (const auto& entry : fs::directory_iterator(checkpoints.step_path(step)))
    fs::rename(entry.path(), fs::path(output) / entry.path().filename());
  fs::remove_all(output + "/checkpoints");
}

}  // namespace vlmamba::app
