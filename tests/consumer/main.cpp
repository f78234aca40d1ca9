// A project of one's own: the library's program with one more connector, which configs name as "kind": "mean", and one
// more task, "kind": "first_word".

#include "vlmamba/app/main.h"

#include <ATen/ATen.h>

#include <memory>

#include "vlmamba/app/extensions.h"
#include "vlmamba/eval/task.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/config.h"
#include "vlmamba/io/tsv.h"
#include "vlmamba/model/connector.h"

namespace {

struct MeanConfig {
  double share = 1;

  template <typename F>
  void visit(F& f) {
    f("share", share, "how much of the picture's mean is added to every patch", vlmamba::Range{0});
  }
};

// Every patch becomes a linear map of itself and of the picture's mean.
class MeanConnector : public vlmamba::Connector {
 public:
  MeanConnector(const MeanConfig& config, const vlmamba::ConnectorShape& shape)
      : config_(config), weight_(register_parameter("weight", at::randn({shape.out_dim, shape.in_dim}).mul_(0.02))) {}

  at::Tensor forward(const at::Tensor& features) override {
    return at::linear(features + config_.share * features.mean(1, /*keepdim=*/true), weight_);
  }

 private:
  MeanConfig config_;
  at::Tensor weight_;  // [D, Dv]
};

struct FirstWordConfig {
  std::string questions;

  template <typename F>
  void visit(F& f) {
    f("questions", questions, "table with the columns id, image, question, word");
  }
};

// Right is an answer whose first word is the wanted one.
class FirstWordTask : public vlmamba::Task {
 public:
  explicit FirstWordTask(const FirstWordConfig& config) : config_(config) {}

  std::vector<vlmamba::TaskQuestion> questions() const override {
    const std::string text = vlmamba::io::read_file(config_.questions, vlmamba::ExitCode::kData);
    std::vector<vlmamba::TaskQuestion> questions;
    const auto table = vlmamba::io::parse_tsv(text, config_.questions, vlmamba::ExitCode::kData);
    for (const auto& row : table.rows) {
      auto& question = questions.emplace_back();
      question.id = row.fields.at(0);
      question.image = row.fields.at(1);
      question.text = question.prompt = row.fields.at(2);
      question.truths = {row.fields.at(3)};
    }
    return questions;
  }

  vlmamba::ScoreResult score(const std::vector<vlmamba::TaskQuestion>& asked,
                             const vlmamba::AnswerFile& answers) const override {
    double right = 0;
    for (size_t i = 0; i < asked.size(); ++i) {
      const std::string& text = answers.answers[i].text;
      right += text.substr(0, text.find(' ')) == asked[i].truths[0] ? 1 : 0;
    }
    vlmamba::ScoreResult result;
    if (!asked.empty()) result.score = 100 * right / static_cast<double>(asked.size());
    return result;
  }

 private:
  FirstWordConfig config_;
};

}  // namespace

int main(int argc, char** argv) {
  vlmamba::Extensions extensions;
  extensions.connectors["mean"] = [](const vlmamba::ConnectorConfig& config, const vlmamba::ConnectorShape& shape) {
    return std::make_shared<MeanConnector>(
        vlmamba::io::from_json<MeanConfig>(config.options, "model.connector.options"), shape);
  };
  extensions.tasks["first_word"] = [](const vlmamba::TaskConfig& config) {
    return std::make_shared<FirstWordTask>(
        vlmamba::io::from_json<FirstWordConfig>(config.options, "eval.tasks.options"));
  };
  return vlmamba::app::main(argc, argv, extensions);
}
