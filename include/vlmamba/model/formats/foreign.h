#pragma once

#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/json.h"
#include "vlmamba/model/connector.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"
#include "vlmamba/model/weights.h"

/// The checkpoints of others: what their config.json says and what their tensors are called.
namespace vlmamba::formats {

/// What a folder of another library describes; the vision part alone of a model with a text part.
struct Foreign {
  std::string description;  ///< "Hugging Face's CLIPModel, vision part": for messages
  std::optional<VisionEncoderConfig> vision_encoder;
  std::optional<LanguageModelConfig> language_model;
  std::vector<int64_t> end_tokens;  ///< ids that end a text
  bool of_mamba_ssm = false;        ///< its config is mamba_ssm's, not Hugging Face's
  bool residual_in_fp32 = true;     ///< what its config says; here the residual stream is fp32 in any case
};

/// Reads a folder's config.json (and generation_config.json), of Hugging Face or of mamba_ssm. None where there is no
/// such file, or one of this program. Throws Error (weights) that lists every value that no model here can follow.
std::optional<Foreign> read_foreign(const std::string& folder);

/// The same from a config alone. Throws Error (weights).
Foreign read_foreign_config(const std::string& path);

/// The same from JSON. `where` is for messages.
Foreign parse_foreign(const io::Json& config, const std::string& where);

/// Our names for the tensors of an encoder as CLIPVisionModel, CLIPModel, SiglipVisionModel or SiglipModel name them,
/// with or without `vision_model.`; the text part, the head and blocks that do not run are not needed.
NameMap vision_names(const VisionEncoderConfig& config);
/// Of a language model: mamba_ssm's and Hugging Face's, with or without the prefix of its body. A tied head is not
/// needed.
NameMap language_names(const LanguageModelConfig& config);
/// Of LLaVA's mm_projector.bin, for the MLP connector; other connectors have our names alone.
NameMap connector_names(const ConnectorConfig& config);

/// The other way: LLaVA's name for a parameter of our MLP connector ("fc1.bias").
std::string llava_connector_name(const std::string& parameter);

/// Throws Error (weights) that lists every value in which a config and the folder of its weights disagree.
void check_agrees(const VisionEncoderConfig& ours, const VisionEncoderConfig& theirs, const std::string& where);
void check_agrees(const LanguageModelConfig& ours, const LanguageModelConfig& theirs, const std::string& where);

}  // namespace vlmamba::formats
