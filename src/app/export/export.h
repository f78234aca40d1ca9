#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vlmamba/app/extensions.h"
#include "vlmamba/data/image_processor.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

/// Checkpoints for other programs, and back. Every tensor keeps its bytes. What is converted is checked first as it is
/// where it is loaded, with the same errors, and a folder is there as a whole or not at all.
namespace vlmamba::app {

/// A step folder of this program as a folder of Hugging Face's kind: the whole model with modeling_vl_mamba.py,
/// tokenizer, processor and model card, and the language model alone in `language_model/` (but for a Mamba-2 whose norm
/// has groups, which transformers' class has not). Throws Error (weights).
void export_checkpoint(const std::string& step_folder, const std::string& output, const Extensions& extensions);

/// What config.json of such a folder holds of ours: `config` and `state`. None for other folders. Throws Error
/// (weights).
std::optional<io::Json> exported_part(const std::string& folder);

/// The step folder that such a folder came from, or one that was trained on in Python. Throws Error (weights).
void import_checkpoint(const std::string& folder, const std::string& output, const Extensions& extensions);

/// The mlp connector of a step folder as LLaVA's mm_projector.bin. Throws Error (weights) for other connectors.
void export_llava_projector(const std::string& step_folder, const std::string& output, const Extensions& extensions);

enum class MambaFormat { kHuggingFace, kOfficial };

/// The folder of a Mamba or Mamba-2 in the other format: tensors renamed, config.json in the other's words, tokenizer
/// copied. The config that it came with is kept beside and comes back byte for byte. Throws Error (weights), also for
/// what the other format cannot say.
void convert_mamba(const std::string& folder, const std::string& output, MambaFormat to);

/// Weights of any format that is read, a file or a folder, as model.safetensors with the same names. Throws Error
/// (weights), also where a folder's config.json does not describe its weights.
void convert_to_safetensors(const std::string& input, const std::string& output);

/// Configs of transformers for our models: MambaConfig, Mamba2Config or GPTNeoXConfig, and CLIPVisionConfig or
/// SiglipVisionConfig for the blocks in front of the features.
io::Json language_config(const LanguageModelConfig& config);
io::Json vision_config(const VisionEncoderConfig& config);
/// `eos_token_id` of such a config: an id, an array of them, or null.
io::Json end_token_ids(const std::vector<int64_t>& ids);
/// mamba_ssm's, of a Mamba or Mamba-2.
io::Json official_config(const LanguageModelConfig& config);

/// preprocessor_config.json for our `image_processor`.
io::Json preprocessor_config(const ImageProcessorConfig& config);

}  // namespace vlmamba::app
