#include "vlmamba/train/stage_summary.h"

#include <cstdio>

namespace vlmamba {

std::string stage_summary(const StageConfig& stage, const VlMamba& model, const Optimizer& optimizer,
                          int64_t num_records) {
  std::string out = "stage " + stage.name + ": " + std::to_string(planned_steps(stage, num_records)) + " steps of " +
                    std::to_string(stage.batch.global_batch) + " records (" +
                    std::to_string(stage.batch.global_batch / stage.batch.micro_batch) + " x " +
                    std::to_string(stage.batch.micro_batch) + "), " + std::to_string(num_records) + " records\n";
  for (const auto& child : model.named_children()) {
    int64_t count = 0, training = 0;
    for (const auto& parameter : child.value()->parameters()) {
      count += parameter.numel();
      training += parameter.requires_grad() ? parameter.numel() : 0;
    }
    const std::string trains = training == 0       ? "frozen"
                               : training == count ? "trains"
                                                   : std::to_string(training) + " of them train";
    char line[128];
    std::snprintf(line, sizeof line, "  %-16s %12lld parameters  %s\n", child.key().c_str(),
                  static_cast<long long>(count), trains.c_str());
    out += line;
  }
  for (const auto& group : optimizer.groups()) {
    char line[160];
    std::snprintf(line, sizeof line, "  group %-16s lr %-8g decay %-8g %4zu tensors, %lld parameters\n",
                  group.part.c_str(), group.lr, group.weight_decay, group.names.size(),
                  static_cast<long long>(group.num_elements()));
    out += line;
  }
  out.pop_back();
  return out;
}

}  // namespace vlmamba
