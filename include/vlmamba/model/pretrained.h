#pragma once

#include <memory>

#include "vlmamba/io/weights/weight_files.h"
#include "vlmamba/model/connector.h"
#include "vlmamba/model/language_model.h"
#include "vlmamba/model/vision_encoder.h"

namespace vlmamba {

/// Copies the weights that `config.pretrained` names into a part: a file of safetensors or torch.save, or a folder of
/// such files, of Hugging Face, of mamba_ssm or of this program (a checkpoint, whose part is taken). Where the folder
/// has another library's config.json, it must agree with `config`. Throws Error (weights) that lists all that differs.
void load_pretrained(VisionEncoder& part, const VisionEncoderConfig& config);
void load_pretrained(LanguageModel& part, const LanguageModelConfig& config);
void load_pretrained(Connector& part, const ConnectorConfig& config);

/// Throws Error (weights) where make_pretrained would, before memory is taken. Gives the files.
io::WeightFiles check_pretrained(const VisionEncoderConfig& config);
io::WeightFiles check_pretrained(const LanguageModelConfig& config);

/// A part and its weights, as above. Nothing is allocated for it before the file is known to hold just its tensors.
std::shared_ptr<VisionEncoder> make_pretrained(const VisionEncoderConfig& config);
std::shared_ptr<LanguageModel> make_pretrained(const LanguageModelConfig& config);

}  // namespace vlmamba
