#include "src/app/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <optional>

#include "vlmamba/core/log.h"
#include "vlmamba/io/checkpoint_folder.h"
#include "vlmamba/model/weights.h"

namespace vlmamba::app {
namespace {

io::CheckpointFolder checkpoints_of(const RunConfig& config, size_t stage) {
  return io::CheckpointFolder(config.output_dir + "/" + config.stages[stage].name + "/checkpoints");
}

// The newest whole checkpoint of a stage, or none where there is none at all. A stage whose checkpoints are all damaged
// is no fresh one.
std::optional<int64_t> newest_whole(const RunConfig& config, size_t stage) {
  std::string last_damage;
  const auto step = checkpoints_of(config, stage).newest([&](const std::string& why) {
    log::warn("passing over a damaged checkpoint: " + why);
    last_damage = why;
  });
  if (!step && !last_damage.empty())
    throw Error(ExitCode::kWeights, config.output_dir + "/" + config.stages[stage].name,
                "expected a whole checkpoint, got only damaged ones; bring one back, or remove them to train the stage "
                "anew");
  return step;
}

}  // namespace

RunLock::RunLock(const std::string& run) {
  const std::string path = run + "/.lock";
  descriptor_ = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw Error(ExitCode::kIo, path, "expected to make the lock file, got a failed open");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  throw Error(ExitCode::kUsage, run, "expected a run that no other program trains, got one that is locked");
}

RunLock::~RunLock() { ::close(descriptor_); }

Run::Run(const RunConfig& config, const Extensions& extensions, std::shared_ptr<Comm> comm,
         std::function<bool()> stop_requested)
    : config_(config),
      comm_(std::move(comm)),
      stop_requested_(std::move(stop_requested)),
      tokenizer_(load_tokenizer(config)),
      model_(build_model(config.model, static_cast<uint64_t>(config.seed), extensions.connectors)) {
  place_model(*model_, config.device, comm_->local_rank());
}

// Rank 0 looks and tells the others, so that all do the same whatever the disk shows them.
std::optional<int64_t> Run::newest(size_t stage) const {
  std::string found;
  if (comm_->is_first())
    if (const auto step = newest_whole(config_, stage)) found = std::to_string(*step);
  found = comm_->broadcast(found, 0);
  return found.empty() ? std::nullopt : std::optional<int64_t>(std::stoll(found));
}

ExitCode Run::train(const std::vector<size_t>& chosen) {
  // The last stage that was begun is continued; what came before it is finished.
  size_t first = 0;
  for (size_t i = 0; i < chosen.size(); ++i)
    if (newest(chosen[i])) first = i;
  if (!newest(chosen[first]) && chosen[first] > 0) start_from_stage_before(chosen[first]);
  for (size_t i = first; i < chosen.size(); ++i)
    if (train_stage(chosen[i]) == StageEnd::kStopped) {
      log::info("stopped in good order; continue with: vlmamba train --resume " + config_.output_dir);
      return ExitCode::kPreempted;
    }
  log::info("finished: " + config_.output_dir);
  return ExitCode::kOk;
}

void Run::start_from_stage_before(size_t stage) {
  const auto step = newest(stage - 1);
  if (!step) {
    for (size_t earlier = 0; earlier + 1 < stage; ++earlier)
      if (newest(earlier))
        throw Error(ExitCode::kUsage, "--stage " + config_.stages[stage].name,
                    "expected stage " + config_.stages[stage - 1].name + " to be trained before it, got a run where " +
                        config_.stages[earlier].name + " is the last");
    log::info("stage " + config_.stages[stage].name + " starts from the parts' own weights");
    return;
  }
  const std::string folder = checkpoints_of(config_, stage - 1).step_path(*step);
  load_weights(*model_, folder + "/model.safetensors");
  log::info("stage " + config_.stages[stage].name + " starts from " + folder);
}

StageEnd Run::train_stage(size_t index) {
  const StageConfig& stage = config_.stages[index];
  const StageData data =
      load_stage_data(config_, stage, tokenizer_, model_->vision_encoder->num_patches(), config_.output_dir + "/index");
  Trainer trainer(
      *model_, data,
      {stage, static_cast<uint64_t>(config_.seed), static_cast<uint32_t>(index), config_.output_dir + "/" + stage.name,
       checkpoint_companions(config_, tokenizer_), stop_requested_, comm_, config_.distributed});
  if (const auto step = newest(index)) {
    trainer.restore(*step);
    log::info("stage " + stage.name + " resumes at step " + std::to_string(*step) + " of " +
              std::to_string(trainer.total_steps()));
  } else {
    log::info(trainer.summary());
  }
  return trainer.run();
}

}  // namespace vlmamba::app
