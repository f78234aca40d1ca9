#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/export/export.h"
#include "vlmamba/app/build.h"
#include "vlmamba/model/formats/foreign.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string input, output, to;
};

// A checkpoint of this program, or a Mamba of mamba_ssm.
void convert_to_hf(const Options& options, const Extensions& extensions) {
  if (formats::read_foreign(options.input))
    convert_mamba(options.input, options.output, MambaFormat::kHuggingFace);
  else
    export_checkpoint(find_checkpoint(options.input).folder, options.output, extensions);
}

ExitCode convert(const Options& options, const Extensions& extensions) {
  if (options.to == "hf") convert_to_hf(options, extensions);
  if (options.to == "official") convert_mamba(options.input, options.output, MambaFormat::kOfficial);
  if (options.to == "safetensors") convert_to_safetensors(options.input, options.output);
  if (options.to == "checkpoint") import_checkpoint(options.input, options.output, extensions);
  if (options.to == "llava-projector")
    export_llava_projector(find_checkpoint(options.input).folder, options.output, extensions);
  return ExitCode::kOk;
}

}  // namespace

Command add_convert(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a checkpoint as another program reads it, or back");
  command->add_option("--input", options->input, "run, checkpoint, folder of Hugging Face or mamba_ssm, or weight file")
      ->required();
  command->add_option("--output", options->output, "folder to write; must not exist yet or be empty")->required();
  command
      ->add_option("--to", options->to,
                   "hf: of a checkpoint of this program, a folder that transformers loads; of a Mamba or Mamba-2 of "
                   "mamba_ssm, MambaForCausalLM or Mamba2ForCausalLM\nofficial: of those, mamba_ssm's "
                   "pytorch_model.bin\nsafetensors: the "
                   "same weights as safetensors\ncheckpoint: of an exported folder, the checkpoint "
                   "again\nllava-projector: of a checkpoint with an mlp "
                   "connector, LLaVA's mm_projector.bin")
      ->required()
      ->check(CLI::IsMember({"hf", "official", "safetensors", "checkpoint", "llava-projector"}));
  return {command, [options, &extensions] { return convert(*options, extensions); }};
}

}  // namespace vlmamba::app
