// A project of one's own: the library's program with one more connector, which configs name as "kind": "mean".

#include "vlmamba/app/main.h"

#include <ATen/ATen.h>

#include <memory>

#include "vlmamba/app/extensions.h"
#include "vlmamba/io/config.h"
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

}  // namespace

int main(int argc, char** argv) {
  vlmamba::Extensions extensions;
  extensions.connectors["mean"] = [](const vlmamba::ConnectorConfig& config, const vlmamba::ConnectorShape& shape) {
    return std::make_shared<MeanConnector>(
        vlmamba::io::from_json<MeanConfig>(config.options, "model.connector.options"), shape);
  };
  return vlmamba::app::main(argc, argv, extensions);
}
