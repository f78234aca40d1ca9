#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <mutex>
#include <sstream>

#include "tests/app/tiny_run.h"
#include "vlmamba/app/build.h"
#include "vlmamba/dist/thread_ranks.h"
#include "vlmamba/io/json.h"
#include "vlmamba/train/trainer.h"

// Training by several ranks, as threads of this process: what it must not change.
namespace vlmamba {
namespace {

using at::Tensor;
using test::TinyRun;
using testing::HasSubstr;

constexpr int kSteps = 4;

// Records of unequal length; of three in a row, one has a picture.
void write_uneven_records(const std::string& folder) {
  std::string text = "[";
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i), image = i % 3 == 0 ? R"("image": "images/)" + n + R"(.png", )" : "";
    text += std::string(i ? ", " : "") + R"({"id": "r)" + n + R"(", )" + image +
            R"("conversations": [{"from": "human", "value": ")" + (i % 3 == 0 ? "<image>\\n" : "") +
            R"(count"}, {"from": "gpt", "value": ")" + std::string(static_cast<size_t>(1 + i * i % 17), '7') +
            R"("}]})";
  }
  test::write(folder + "/records.json", text + "]");
}

struct Plan {
  int64_t ranks = 1, micro_batch = 8;
  bool sharded = false;
  at::ScalarType type = at::kDouble;
  double clip = 0.05;  // low enough to matter
  std::string name = "run";
  int64_t steps = kSteps;
  bool resumes = false;
  int64_t compare_every = 1;
};

// What one rank does between two steps.
using Between = std::function<bool(int64_t rank, VlMamba& model)>;

struct Result {
  NamedTensors weights;
  std::vector<double> losses, norms;
  std::vector<int64_t> last_step;  // by rank
};

class Ranks : public testing::Test {
 protected:
  Ranks() { write_uneven_records(tiny_.data); }

  Result train(
      const Plan& plan, const Between& between = [](int64_t, VlMamba&) { return false; }) {
    const RunConfig config = app::read_run_config(
        tiny_.config, {"output_dir=" + tiny_.run(plan.name), "data_root=" + tiny_.data,
                       "stages.instruct.batch.micro_batch=" + std::to_string(plan.micro_batch),
                       "stages.instruct.steps=" + std::to_string(plan.steps), "stages.instruct.checkpoint.every=0",
                       std::string("stages.instruct.optimizer.sharded=") + (plan.sharded ? "true" : "false"),
                       "stages.instruct.optimizer.clip=" + std::to_string(plan.clip),
                       "distributed.compare_every=" + std::to_string(plan.compare_every)});
    const Tokenizer tokenizer = app::load_tokenizer(config);
    std::vector<std::shared_ptr<VlMamba>> models;
    for (int64_t rank = 0; rank < plan.ranks; ++rank) {
      models.push_back(build_model(config.model, 3));
      models.back()->to(plan.type);
    }
    Result result;
    result.last_step.resize(static_cast<size_t>(plan.ranks));
    const StageConfig& stage = config.stages[1];
    run_ranks(plan.ranks, [&](Comm& comm) {
      VlMamba& model = *models[static_cast<size_t>(comm.rank())];
      const StageData data = app::load_stage_data(config, stage, tokenizer, model.vision_encoder->num_patches(), "");
      Trainer::Setup setup{stage, 3, 1, tiny_.run(plan.name) + "/instruct", {}};
      setup.comm = std::shared_ptr<Comm>(std::shared_ptr<Comm>(), &comm);
      setup.distributed = config.distributed;
      setup.stop_requested = [&] { return between(comm.rank(), model); };
      Trainer trainer(model, data, setup);
      if (plan.resumes) trainer.restore(2);
      const auto note = [&] { result.last_step[static_cast<size_t>(comm.rank())] = trainer.state().step; };
      try {
        trainer.run();
      } catch (...) {
        note();
        throw;
      }
      note();
    });
    result.weights = named_parameters(*models[0]);
    std::istringstream lines(test::read(tiny_.run(plan.name) + "/instruct/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = io::parse_json(line, "metrics", ExitCode::kInternal);
      result.losses.push_back(json.find("loss")->as_number());
      result.norms.push_back(json.find("grad_norm")->as_number());
    }
    return result;
  }

  const TinyRun tiny_;
};

double length_of(const Tensor& tensor) { return at::linalg_vector_norm(tensor.to(at::kDouble)).item<double>(); }

void expect_equal(const Result& got, const Result& expected, double bound) {
  ASSERT_EQ(got.losses.size(), expected.losses.size());
  for (size_t i = 0; i < got.losses.size(); ++i) {
    EXPECT_NEAR(got.losses[i], expected.losses[i], bound * std::abs(expected.losses[i])) << "step " << i + 1;
    EXPECT_NEAR(got.norms[i], expected.norms[i], 10 * bound * expected.norms[i]) << "step " << i + 1;
  }
  for (size_t i = 0; i < got.weights.size(); ++i)
    EXPECT_LE(length_of(got.weights[i].second - expected.weights[i].second),
              bound * length_of(expected.weights[i].second) + 1e-300)
        << got.weights[i].first;
}

// The same eight records a step: at once, accumulated, and dealt to ranks, with the moments whole or sharded. Micro-
// batches of one or two records hold unequal numbers of targets, and often no picture.
TEST_F(Ranks, HowTheBatchIsCutChangesNothing) {
  const Result whole = train({});
  std::vector<Plan> plans{{1, 4}, {1, 1}};
  for (const bool sharded : {false, true})
    for (const auto& [ranks, micro] : std::vector<std::pair<int64_t, int64_t>>{{2, 4}, {2, 1}, {4, 2}, {8, 1}})
      plans.push_back({ranks, micro, sharded});
  for (auto& plan : plans) {
    plan.name = std::to_string(plan.ranks) + "x" + std::to_string(plan.micro_batch) + (plan.sharded ? "sharded" : "");
    SCOPED_TRACE(plan.name);
    expect_equal(train(plan), whole, 1e-10);
  }
}

TEST_F(Ranks, ChangeRoundingAloneInFp32) {
  const Plan single{.type = at::kFloat, .name = "single"};
  const Plan several{.ranks = 2, .micro_batch = 2, .sharded = true, .type = at::kFloat, .name = "several"};
  expect_equal(train(several), train(single), 2e-5);
}

TEST_F(Ranks, ShardedMomentsGiveTheVerySameWeights) {
  const Plan whole{.ranks = 2, .micro_batch = 2, .type = at::kFloat, .clip = 0, .name = "whole"};
  Plan sharded = whole;
  sharded.sharded = true;
  sharded.name = "sharded";
  const auto expected = train(whole), got = train(sharded);
  for (size_t i = 0; i < expected.weights.size(); ++i)
    EXPECT_TRUE(got.weights[i].second.equal(expected.weights[i].second)) << got.weights[i].first;
}

// A checkpoint is the same whoever writes it, and any number of ranks goes on from it.
TEST_F(Ranks, AnotherNumberOfRanksContinues) {
  Plan plan{.ranks = 1, .micro_batch = 2, .name = "whole"};
  const Result whole = train(plan);
  const std::vector<std::pair<Plan, Plan>> changes{
      {{.ranks = 2, .sharded = true}, {.ranks = 1}},
      {{.ranks = 1}, {.ranks = 4, .sharded = true}},
      {{.ranks = 4, .sharded = true}, {.ranks = 2, .sharded = true}},
      {{.ranks = 2}, {.ranks = 2, .sharded = true}},
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    SCOPED_TRACE(i);
    auto [first, second] = changes[i];
    first.micro_batch = second.micro_batch = 2;
    first.name = second.name = "changed" + std::to_string(i);
    int64_t calls = 0;
    std::mutex mutex;
    train(first, [&](int64_t rank, VlMamba&) {
      const std::lock_guard lock(mutex);
      return rank == 0 && ++calls == 2;
    });
    second.resumes = true;
    expect_equal(train(second), whole, 1e-10);
  }
}

TEST_F(Ranks, AStopThatOneRankIsAskedForStopsAllAtTheSameStep) {
  std::vector<int64_t> calls(3);
  const Plan plan{.ranks = 2, .micro_batch = 4, .name = "stopped"};
  const auto stopped = train(plan, [&](int64_t rank, VlMamba&) {
    return ++calls[static_cast<size_t>(rank)] == 2 && rank == 1;  // its third step is not reached
  });
  EXPECT_EQ(stopped.last_step, (std::vector<int64_t>{2, 2}));
  EXPECT_TRUE(std::filesystem::exists(tiny_.run("stopped") + "/instruct/checkpoints/step_00000002/manifest.json"));
}

// What happens to one rank behind its second step.
Between after_two_steps_on_rank_1(std::vector<int64_t>& calls, std::function<void(VlMamba&)> what) {
  return [&calls, what = std::move(what)](int64_t rank, VlMamba& model) {
    if (++calls[static_cast<size_t>(rank)] == 2 && rank == 1) what(model);
    return false;
  };
}

TEST_F(Ranks, ANanOnOneRankStopsAllBeforeAnyWeightIsTouched) {
  for (const bool sharded : {false, true}) {
    const Plan plan{
        .ranks = 2, .micro_batch = 2, .sharded = sharded, .name = sharded ? "sharded" : "whole", .compare_every = 0};
    std::vector<int64_t> calls(2);
    std::mutex mutex;
    std::vector<Tensor> before(2), after(2);
    try {
      train(plan, [&](int64_t rank, VlMamba& model) {
        const std::lock_guard lock(mutex);
        const at::NoGradGuard no_grad;
        const auto parameters = model.parameters();
        if (++calls[static_cast<size_t>(rank)] != 2) return false;
        if (rank == 1) parameters.back().fill_(std::numeric_limits<double>::quiet_NaN());
        before[static_cast<size_t>(rank)] = parameters.front().clone();
        after[static_cast<size_t>(rank)] = parameters.front();
        return false;
      });
      FAIL() << "nothing was thrown";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kNonFinite);
      EXPECT_THAT(error.what(), HasSubstr("step 3"));
    }
    EXPECT_EQ(calls, (std::vector<int64_t>{2, 2}));
    for (size_t rank = 0; rank < 2; ++rank) EXPECT_TRUE(before[rank].equal(after[rank]));
  }
}

TEST_F(Ranks, AReplicaThatDriftsIsFoundAndNamed) {
  std::vector<int64_t> calls(3);
  const auto drift = after_two_steps_on_rank_1(calls, [](VlMamba& model) {
    const at::NoGradGuard no_grad;
    auto parameters = model.named_parameters();
    parameters["language_model.backbone.embeddings.weight"][7][3].add_(1e-12);
  });
  const Plan plan{.ranks = 4, .micro_batch = 2, .name = "drifts"};
  calls.resize(4);
  try {
    train(plan, drift);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kPeerLost);
    EXPECT_THAT(error.what(), HasSubstr("stage instruct, step 3] language_model."));
    EXPECT_THAT(error.what(), HasSubstr("on rank 1;"));
  }
}

TEST_F(Ranks, ABatchThatCannotBeDealtIsRefused) {
  try {
    train({.ranks = 3, .micro_batch = 2, .name = "odd"});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(),
                HasSubstr("batch.global_batch] expected a multiple of micro_batch x processes (2 x 3), got 8"));
  }
}

}  // namespace
}  // namespace vlmamba
