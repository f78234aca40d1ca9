#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vlmamba/io/json.h"

/// What a run's folder says about how far the run is. Nothing else remembers it.
namespace vlmamba::study {

/// The last checkpoint of a stage.
struct StageEnd {
  std::string folder;
  int64_t step = 0;
};

/// The checkpoint that ended a stage; none while it is not finished. Does not read the weights.
std::optional<StageEnd> finished_stage(const std::string& run, const std::string& stage);

/// Names of the stages and tasks of a resolved run config.
std::vector<std::string> stage_names(const io::Json& config);
std::vector<std::string> task_names(const io::Json& config);

/// Where the evaluation of a run's last stage lies, whether it is there or not.
std::string evaluation_folder(const std::string& run, const std::string& stage, const StageEnd& end);

/// Are all tasks of the config scored, of the checkpoint that is there and asked as the config says?
bool evaluated(const std::string& run, const io::Json& config);

/// Gives a run the finished stage of another, as if it had trained it: hard links where the disk allows them, else
/// copies. Appears as a whole. Throws Error (kIo).
void link_stage(const std::string& from_run, const std::string& to_run, const std::string& stage);

}  // namespace vlmamba::study
