#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/export/export.h"
#include "vlmamba/app/build.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string input, output, to;
};

// A checkpoint of this program, or a Mamba of mamba_ssm.
void convert_to_hf(const Options& options) {
  if (io::read_json(options.input + "/config.json", ExitCode::kWeights).find("stages"))
    export_checkpoint(find_checkpoint(options.input).folder, options.output);
  else
    convert_mamba(options.input, options.output, MambaFormat::kHuggingFace);
}

ExitCode convert(const Options& options) {
  if (options.to == "hf") convert_to_hf(options);
  if (options.to == "official") convert_mamba(options.input, options.output, MambaFormat::kOfficial);
  if (options.to == "safetensors") convert_to_safetensors(options.input, options.output);
  if (options.to == "checkpoint") import_checkpoint(options.input, options.output);
  if (options.to == "llava-projector") export_llava_projector(find_checkpoint(options.input).folder, options.output);
  return ExitCode::kOk;
}

}  // namespace

Command add_convert(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a checkpoint as another program reads it, or back");
  command->add_option("--input", options->input, "run, checkpoint, folder of Hugging Face or mamba_ssm, or weight file")
      ->required();
  command->add_option("--output", options->output, "folder to write; must not exist yet or be empty")->required();
  command
      ->add_option("--to", options->to,
                   "hf: of a checkpoint of this program, a folder that transformers loads; of a Mamba of mamba_ssm, "
                   "MambaForCausalLM\nofficial: of MambaForCausalLM, mamba_ssm's pytorch_model.bin\nsafetensors: the "
                   "same weights as safetensors\ncheckpoint: of an exported folder, the checkpoint "
                   "again\nllava-projector: of a checkpoint with an mlp "
                   "connector, LLaVA's mm_projector.bin")
      ->required()
      ->check(CLI::IsMember({"hf", "official", "safetensors", "checkpoint", "llava-projector"}));
  return {command, [options] { return convert(*options); }};
}

}  // namespace vlmamba::app
