#include <map>
#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/export/export.h"
#include "vlmamba/app/build.h"

namespace vlmamba::app {
namespace {

enum class Target { kHuggingFace, kOfficial, kSafetensors, kCheckpoint };

struct Options {
  std::string input, output;
  Target to = Target::kHuggingFace;
};

ExitCode convert(const Options& options) {
  switch (options.to) {
    case Target::kSafetensors:
      convert_to_safetensors(options.input, options.output);
      break;
    case Target::kOfficial:
      convert_mamba(options.input, options.output, MambaFormat::kOfficial);
      break;
    case Target::kCheckpoint:
      import_checkpoint(options.input, options.output);
      break;
    case Target::kHuggingFace: {
      const io::Json config = io::read_json(options.input + "/config.json", ExitCode::kWeights);
      if (config.find("stages"))  // ours
        export_checkpoint(find_checkpoint(options.input).folder, options.output);
      else
        convert_mamba(options.input, options.output, MambaFormat::kHuggingFace);
      break;
    }
  }
  return ExitCode::kOk;
}

}  // namespace

Command add_convert(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "Write a checkpoint as another program reads it, or back");
  command->add_option("--input", options->input, "run, checkpoint, folder of Hugging Face or mamba_ssm, or weight file")
      ->required();
  command->add_option("--output", options->output, "folder to write; must not exist yet or be empty")->required();
  const std::map<std::string, Target> targets{{"hf", Target::kHuggingFace},
                                              {"official", Target::kOfficial},
                                              {"safetensors", Target::kSafetensors},
                                              {"checkpoint", Target::kCheckpoint}};
  command
      ->add_option("--to", options->to,
                   "hf: of a checkpoint of this program, a folder that transformers loads; of a Mamba of mamba_ssm, "
                   "MambaForCausalLM\nofficial: of MambaForCausalLM, mamba_ssm's pytorch_model.bin\nsafetensors: the "
                   "same weights as safetensors\ncheckpoint: of an exported folder, the checkpoint again")
      ->required()
      ->transform(CLI::Transformer(targets));
  return {command, [options] { return convert(*options); }};
}

}  // namespace vlmamba::app
