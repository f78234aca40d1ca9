// A project of one's own: the library's program with one more connector, which configs name as "kind": "mean".

#include <ATen/ATen.h>

#include <memory>

#include "vlmamba/app/extensions.h"
#include "vlmamba/app/main.h"
#include "vlmamba/model/connector.h"

namespace {

// Every patch becomes a linear map of itself and of the picture's mean.
class MeanConnector : public vlmamba::Connector {
 public:
  explicit MeanConnector(const vlmamba::ConnectorShape& shape)
      : weight_(register_parameter("weight", at::randn({shape.out_dim, shape.in_dim}).mul_(0.02))) {}

  at::Tensor forward(const at::Tensor& features) override {
    return at::linear(features + features.mean(1, /*keepdim=*/true), weight_);
  }

 private:
  at::Tensor weight_;  // [D, Dv]
};

}  // namespace

int main(int argc, char** argv) {
  vlmamba::Extensions extensions;
  extensions.connectors["mean"] = [](const vlmamba::ConnectorConfig&, const vlmamba::ConnectorShape& shape) {
    return std::make_shared<MeanConnector>(shape);
  };
  return vlmamba::app::main(argc, argv, extensions);
}
