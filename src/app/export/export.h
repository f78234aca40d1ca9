#pragma once

#include <optional>
#include <string>

#include "vlmamba/data/image_processor.h"
#include "vlmamba/io/json.h"
#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

/// Checkpoints for other programs, and back. Every tensor keeps its bytes.
namespace vlmamba::app {

/// A step folder of this program as a folder of Hugging Face's kind: the whole model with modeling_vl_mamba.py,
/// tokenizer, processor and model card, and the language model alone in `language_model/` (but for a Mamba-2 whose norm
/// has groups, which transformers' class has not). Throws Error (weights).
void export_checkpoint(const std::string& step_folder, const std::string& output);

/// What config.json of such a folder holds of ours: `config` and `state`. None for other folders. Throws Error
/// (weights).
std::optional<io::Json> exported_part(const std::string& folder);

/// The step folder that such a folder came from, or one that was trained on in Python. Throws Error (weights).
void import_checkpoint(const std::string& folder, const std::string& output);

/// The mlp connector of a step folder as LLaVA's mm_projector.bin. Throws Error (weights) for other connectors.
void export_llava_projector(const std::string& step_folder, const std::string& output);

enum class MambaFormat { kHuggingFace, kOfficial };

/// A Mamba language model's folder in the other format: tensors renamed, config.json rewritten, tokenizer copied.
/// Throws Error (weights).
void convert_mamba(const std::string& folder, const std::string& output, MambaFormat to);

/// Weights of any format that is read, a file or a folder, as model.safetensors with the same names. Throws Error
/// (weights).
void convert_to_safetensors(const std::string& input, const std::string& output);

/// Configs of transformers for our models: MambaConfig, Mamba2Config or GPTNeoXConfig, and CLIPVisionConfig or
/// SiglipVisionConfig for the blocks in front of the features.
io::Json language_config(const LanguageModelConfig& config);
io::Json vision_config(const VisionEncoderConfig& config);
/// The config.json of the other format; `rows` is the embedding's height.
io::Json official_to_hf(const io::Json& official, int64_t rows, const std::string& where);
io::Json hf_to_official(const io::Json& hf, const std::string& where);

/// preprocessor_config.json for our `image_processor`.
io::Json preprocessor_config(const ImageProcessorConfig& config);

}  // namespace vlmamba::app
