#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "vlmamba/dist/comm.h"
#include "vlmamba/model/vl_mamba.h"
#include "vlmamba/train/stage.h"
#include "vlmamba/train/stage_data.h"

namespace vlmamba {

/// The mean loss of a target of each set's held-back records, by the set's name. Sets without targets are left out.
/// Each rank takes a part of them; all get the same result.
std::map<std::string, double> validation_losses(const VlMamba& model, const StageData& data, int64_t micro_batch,
                                                Precision precision, Comm& comm);

}  // namespace vlmamba
