#include "vlmamba/app/build.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <filesystem>

#include "src/app/export/export.h"
#include "vlmamba/core/log.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/model/formats/foreign.h"
#include "vlmamba/model/pretrained.h"
#include "vlmamba/model/weights.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";

void check_vocabulary(const Tokenizer& tokenizer, const std::string& path, int64_t rows) {
  if (tokenizer.vocab_size() > rows)
    throw Error(ExitCode::kWeights, path,
                "expected at most model.language_model.vocab_size (" + std::to_string(rows) + ") ids, got " +
                    std::to_string(tokenizer.vocab_size()) + "; tokenizer and language model do not belong together");
}

// Every row of the embedding counts as an id.
void show_padded_rows(LanguageModelConfig& config) {
  config.vocab_size = config.embedding_rows();
  config.pad_vocab_multiple = 1;
}

// Ids that the tokenizer does not know are padding of the embedding, whatever its config says.
void limit_vocabulary(LanguageModelConfig& config, const Tokenizer& tokenizer, const std::string& path) {
  const int64_t rows = config.embedding_rows();
  check_vocabulary(tokenizer, path, rows);
  config.vocab_size = std::min(config.vocab_size, tokenizer.vocab_size());
  config.pad_vocab_multiple = rows;
}

// The architecture alone: a checkpoint's weights are its own, wherever they once came from.
ModelConfig architecture_of(const RunConfig& config) {
  ModelConfig architecture = config.model;
  for (std::string* weights : {&architecture.vision_encoder.pretrained, &architecture.connector.pretrained,
                               &architecture.language_model.pretrained})
    weights->clear();
  return architecture;
}

const StageConfig* find_stage(const RunConfig& config, const std::string& name) {
  const auto found =
      std::find_if(config.stages.begin(), config.stages.end(), [&](const auto& s) { return s.name == name; });
  return found == config.stages.end() ? nullptr : &*found;
}

// The model that the files of a stage's checkpoint fill, with LoRA where they hold it.
std::shared_ptr<VlMamba> build_for(const io::WeightFiles& files, const ModelConfig& architecture,
                                   const StageConfig* stage, const Extensions& extensions, at::ScalarType type,
                                   at::Device device) {
  const nn::WithoutValues without_values(type, device);
  auto model = build_model(architecture, /*seed=*/0, extensions.connectors);
  if (stage != nullptr && has_lora(files)) set_trainable(*model, stage->trainable, /*seed=*/0);
  return model;
}

// What a folder of another library describes; its model is still to be made.
std::optional<ForeignModel> describe_foreign(const std::string& folder, const LoadOptions& options) {
  const auto foreign = formats::read_foreign(folder);
  if (!foreign) return std::nullopt;
  ForeignModel model;
  model.description = foreign->description;
  model.end_tokens = foreign->end_tokens;
  if (foreign->vision_encoder) {
    model.vision_config = *foreign->vision_encoder;
    model.vision_config.pretrained = folder;
    model.vision_config.feature_layer = options.feature_layer.value_or(model.vision_config.feature_layer);
    return model;
  }
  if (options.feature_layer)
    throw Error(ExitCode::kUsage, "--layer", "expected none for a language model (" + foreign->description + ")");
  model.language_config = *foreign->language_model;
  model.language_config.pretrained = folder;
  if (const fs::path tokenizer = fs::path(folder) / "tokenizer.json"; fs::exists(tokenizer)) {
    model.tokenizer = Tokenizer::load(tokenizer.string());
    limit_vocabulary(model.language_config, *model.tokenizer, tokenizer.string());
  }
  if (options.padded_logits) show_padded_rows(model.language_config);
  return model;
}

bool is_encoder(const ForeignModel& model) { return !model.vision_config.pretrained.empty(); }

}  // namespace

Tokenizer load_tokenizer(const RunConfig& config) {
  auto tokenizer = Tokenizer::load(config.tokenizer);
  tokenizer.end_of_text_id();  // answers end with it
  check_vocabulary(tokenizer, config.tokenizer, config.model.language_model.vocab_size);
  return tokenizer;
}

void place_model(VlMamba& model, DeviceChoice device, int64_t local_rank) {
  const int64_t gpus = at::detail::getCUDAHooks().getNumGPUs();
  if (device == DeviceChoice::kCpu || (device == DeviceChoice::kAuto && gpus == 0)) return;
  if (local_rank >= gpus)
    throw Error(ExitCode::kUsage, "device",
                "expected a GPU for each process of this machine, got " + std::to_string(gpus) + " for process " +
                    std::to_string(local_rank));
  const at::Device gpu(at::kCUDA, static_cast<c10::DeviceIndex>(local_rank));
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(gpu);  // what is allocated without a device in sight goes there too
  model.to(gpu);
}

ExampleReader stage_example_reader(const RunConfig& config, const StageConfig& stage, const Tokenizer& tokenizer,
                                   int64_t tokens_per_image) {
  PromptConfig prompt = config.prompt;
  prompt.template_name = stage.prompt_template.value_or(prompt.template_name);
  prompt.learn_prompts = stage.learn_prompts.value_or(prompt.learn_prompts);
  std::vector<std::string> roots;
  for (const auto& set : stage.data.sets) roots.push_back(set.image_root);
  return {tokenizer,        prompt,           ImageProcessor(config.image_processor),
          std::move(roots), tokens_per_image, stage.batch.max_length};
}

StageData load_stage_data(const RunConfig& config, const StageConfig& stage, const Tokenizer& tokenizer,
                          int64_t tokens_per_image, const std::string& index_folder) {
  return read_stage_data(stage.data, stage_example_reader(config, stage, tokenizer, tokens_per_image),
                         static_cast<uint64_t>(config.seed), index_folder);
}

std::map<std::string, std::string> checkpoint_companions(const RunConfig& config, const Tokenizer& tokenizer) {
  return {{kConfig, io::write_config(config).to_string(2) + "\n"}, {"tokenizer.json", tokenizer.json_text()}};
}

CheckpointPlace find_checkpoint(const std::string& path) {
  const fs::path folder = fs::absolute(path).lexically_normal();
  if (fs::exists(folder / "manifest.json")) {
    io::verify_checkpoint(folder.string());
    const std::string where = (folder / "state.json").string();
    const auto state = io::read_json(where, ExitCode::kWeights);
    CheckpointPlace place{folder.string(), folder.string(),
                          io::require(state, "stage", io::Json::Kind::kString, where, ExitCode::kWeights).as_string(),
                          io::require(state, "step", io::Json::Kind::kInteger, where, ExitCode::kWeights).as_integer()};
    const fs::path run = folder.parent_path().parent_path().parent_path();  // RUN/STAGE/checkpoints/step_N
    if (folder.parent_path().filename() == "checkpoints" && fs::exists(run / kConfig)) place.run_folder = run.string();
    return place;
  }
  if (!fs::exists(folder / kConfig))
    throw Error(ExitCode::kWeights, path,
                "expected a run or a checkpoint (a folder with config.json), got " +
                    std::string(fs::exists(folder) ? "something else" : "no such folder"));
  if (const auto foreign = formats::read_foreign(path))
    throw Error(
        ExitCode::kWeights, path,
        "expected a run or a checkpoint, got " + foreign->description + ", which sees no pictures or says nothing");
  if (exported_part(path))
    throw Error(ExitCode::kWeights, path,
                "expected a run or a checkpoint, got a model that was exported for transformers; `vlmamba convert --to "
                "checkpoint` makes a checkpoint of it");
  const auto config = read_saved_config((folder / kConfig).string());
  for (auto stage = config.stages.rbegin(); stage != config.stages.rend(); ++stage) {
    const io::CheckpointFolder checkpoints((folder / stage->name / "checkpoints").string());
    if (const auto step = newest_whole(checkpoints))
      return {checkpoints.step_path(*step), folder.string(), stage->name, *step};
  }
  throw Error(ExitCode::kWeights, path, "expected a run with a whole checkpoint, got none");
}

Responder LoadedModel::responder(const SamplingConfig& sampling, uint64_t seed, int64_t memory) const {
  place_model(*model, config.device);
  return Responder({model, tokenizer, config.prompt, ImageProcessor(config.image_processor)}, sampling, seed, memory);
}

LoadedModel load_checkpoint(const std::string& path, const Extensions& extensions,
                            const std::vector<std::string>& overrides, const LoadOptions& options) {
  LoadedModel loaded{find_checkpoint(path), {}, {}, nullptr};
  const std::string& folder = loaded.place.folder;
  loaded.config = read_saved_config(folder + "/" + kConfig, overrides);
  loaded.tokenizer = Tokenizer::load(folder + "/tokenizer.json");
  ModelConfig architecture = architecture_of(loaded.config);
  check_vocabulary(loaded.tokenizer, folder + "/tokenizer.json", architecture.language_model.vocab_size);
  if (options.feature_layer) architecture.vision_encoder.feature_layer = *options.feature_layer;
  if (options.padded_logits) show_padded_rows(architecture.language_model);
  NameMap names;  // of other features, blocks that the checkpoint has may not run
  if (options.feature_layer)
    names = [vision = formats::vision_names(architecture.vision_encoder)](const std::string& stored) {
      constexpr std::string_view kEncoder = "vision_encoder.";
      if (!stored.starts_with(kEncoder)) return std::optional(stored);
      const auto name = vision(stored.substr(kEncoder.size()));
      return name ? std::optional(std::string(kEncoder) + *name) : std::nullopt;
    };
  const io::WeightFiles files(folder);
  const auto build = [&](at::Device device) {
    return build_for(files, architecture, find_stage(loaded.config, loaded.place.stage), extensions, options.type,
                     device);
  };
  check_weights(named_parameters(*build(at::kMeta)), files, names);  // before memory is taken for what may not be there
  loaded.model = build(at::kCPU);
  copy_weights(named_parameters(*loaded.model), files, names);
  if (!options.keep_lora) merge_lora(*loaded.model);
  return loaded;
}

void check_checkpoint(const RunConfig& config, const std::string& stage, const Tokenizer& tokenizer,
                      const io::WeightFiles& files, const Extensions& extensions) {
  check_vocabulary(tokenizer, "tokenizer.json", config.model.language_model.vocab_size);
  const auto model =
      build_for(files, architecture_of(config), find_stage(config, stage), extensions, at::kFloat, at::kMeta);
  check_weights(named_parameters(*model), files);
}

std::optional<ForeignModel> load_foreign(const std::string& folder, const LoadOptions& options) try {
  auto model = describe_foreign(folder, options);
  if (!model) return std::nullopt;
  const nn::WithoutValues without_values(options.type);
  if (is_encoder(*model))
    model->vision_encoder = make_pretrained(model->vision_config);
  else
    model->language_model = make_pretrained(model->language_config);
  return model;
} catch (const Error& error) {  // sizes that do not fit are the folder's fault, but for a layer that was asked for
  if (error.code() != ExitCode::kUsage || options.feature_layer) throw;
  throw Error(ExitCode::kWeights, folder + "/config.json: " + error.what());
}

std::optional<io::WeightFiles> check_foreign(const std::string& folder) try {
  const auto model = describe_foreign(folder, {});
  if (!model) return std::nullopt;
  return is_encoder(*model) ? check_pretrained(model->vision_config) : check_pretrained(model->language_config);
} catch (const Error& error) {
  if (error.code() != ExitCode::kUsage) throw;
  throw Error(ExitCode::kWeights, folder + "/config.json: " + error.what());
}

std::string cause_of_non_finite(const std::string& checkpoint) {
  const bool foreign = formats::read_foreign(checkpoint).has_value();
  const std::string tensor =
      first_non_finite(io::WeightFiles(foreign ? checkpoint : find_checkpoint(checkpoint).folder));
  if (tensor.empty()) return "the weights are finite: a type of wider range may help";
  return "the weights hold NaN or infinity, first in " + tensor;
}

}  // namespace vlmamba::app
