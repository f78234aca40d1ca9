#include "src/app/run.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "src/app/predecessor.h"
#include "vlmamba/core/log.h"
#include "vlmamba/nn/parameters.h"
#include "vlmamba/train/trainable.h"

namespace vlmamba::app {
namespace {

std::shared_ptr<VlMamba> build(const RunConfig& config, const Extensions& extensions, const StartingPoint& start) {
  const auto seed = static_cast<uint64_t>(config.seed);
  if (!start.has_checkpoint()) return build_model(config.model, seed, extensions.connectors);
  ModelConfig model = config.model;
  for (std::string* weights :
       {&model.vision_encoder.pretrained, &model.connector.pretrained, &model.language_model.pretrained})
    weights->clear();
  const nn::WithoutValues without_values(at::kFloat);
  return build_model(model, seed, extensions.connectors);
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

Run::Run(const RunConfig& config, const Extensions& extensions, std::shared_ptr<Comm> comm, StartingPoint start,
         std::function<bool()> stop_requested)
    : config_(config),
      comm_(std::move(comm)),
      start_(std::move(start)),
      stop_requested_(std::move(stop_requested)),
      tokenizer_(load_tokenizer(config)),
      model_(build(config, extensions, start_)) {
  place_model(*model_, config.device, comm_->local_rank());
}

ExitCode Run::train(const std::vector<size_t>& chosen) {
  const std::string& name = config_.stages[start_.stage].name;
  if (start_.has_checkpoint()) check_predecessor(config_, tokenizer_, start_.checkpoint);
  if (start_.has_checkpoint() && !start_.step) {
    load_trained_weights(*model_, config_.stages[start_.stage - 1].trainable, start_.checkpoint);
    log::info("stage " + name + " starts from " + start_.checkpoint);
  } else if (!start_.step && start_.stage > 0) {
    log::info("stage " + name + " starts from the parts' own weights");
  }
  for (const size_t stage : chosen) {
    if (stage < start_.stage) continue;
    if (train_stage(stage, stage == start_.stage ? start_.step : std::nullopt) == StageEnd::kFinished) continue;
    log::info("stopped in good order; continue with: vlmamba train --resume " + config_.output_dir);
    return ExitCode::kPreempted;
  }
  log::info("finished: " + config_.output_dir);
  return ExitCode::kOk;
}

StageEnd Run::train_stage(size_t index, std::optional<int64_t> step) {
  const StageConfig& stage = config_.stages[index];
  // Rank 0 indexes the records; the others read its index.
  if (!comm_->is_first()) comm_->barrier();
  const StageData data =
      load_stage_data(config_, stage, tokenizer_, model_->vision_encoder->num_patches(), config_.output_dir + "/index");
  if (comm_->is_first()) comm_->barrier();
  if (!step && stage.init_from) load_predecessor(*model_, config_, tokenizer_, *stage.init_from);
  Trainer trainer(
      *model_, data,
      {stage, static_cast<uint64_t>(config_.seed), static_cast<uint32_t>(index), config_.output_dir + "/" + stage.name,
       checkpoint_companions(config_, tokenizer_), stop_requested_, comm_, config_.distributed,
       forward_flops(config_.model, *model_, static_cast<double>(stage.batch.max_length))});
  if (step) {
    trainer.restore(*step);
    log::info("stage " + stage.name + " resumes at step " + std::to_string(*step) + " of " +
              std::to_string(trainer.total_steps()));
  } else {
    log::info(trainer.summary());
  }
  return trainer.run();
}

}  // namespace vlmamba::app
