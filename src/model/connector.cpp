#include "vlmamba/model/connector.h"

#include <ATen/ATen.h>

#include "vlmamba/core/error.h"
#include "vlmamba/nn/linear.h"

namespace vlmamba {
namespace {

using at::Tensor;
using nn::Linear;
using nn::Norm;
using nn::Vss;

constexpr double kNormEps = 1e-5;

class MlpConnector : public Connector {
 public:
  explicit MlpConnector(const ConnectorShape& shape) {
    fc1_ = register_module("fc1", std::make_shared<Linear>(shape.in_dim, shape.out_dim));
    fc2_ = register_module("fc2", std::make_shared<Linear>(shape.out_dim, shape.out_dim));
  }
  Tensor forward(const Tensor& features) override { return fc2_->forward(at::gelu(fc1_->forward(features))); }

 private:
  std::shared_ptr<Linear> fc1_, fc2_;
};

class VssMlpConnector : public Connector {
 public:
  VssMlpConnector(const nn::VssConfig& config, const ConnectorShape& shape) {
    if (config.width != 0 && config.width != shape.in_dim)
      throw Error(ExitCode::kUsage, "model.connector.vss.width",
                  "expected 0 or the encoder's " + std::to_string(shape.in_dim) + " for vss_mlp, got " +
                      std::to_string(config.width));
    vss_ = register_module("vss", std::make_shared<Vss>(config, shape.in_dim, shape.height, shape.width));
    norm_ = register_module("norm", std::make_shared<Norm>(config.norm, shape.in_dim, kNormEps));
    mlp_ = register_module("mlp", std::make_shared<MlpConnector>(shape));
  }
  Tensor forward(const Tensor& features) override {
    return mlp_->forward(norm_->forward(vss_->forward(features) + features));
  }

 private:
  std::shared_ptr<Vss> vss_;
  std::shared_ptr<Norm> norm_;
  std::shared_ptr<MlpConnector> mlp_;
};

class VssL2Connector : public Connector {
 public:
  VssL2Connector(const nn::VssConfig& config, const ConnectorShape& shape) {
    const int64_t width = config.width != 0 ? config.width : shape.out_dim;
    linear_in_ = register_module("linear_in", std::make_shared<Linear>(shape.in_dim, width));
    vss_ = register_module("vss", std::make_shared<Vss>(config, width, shape.height, shape.width));
    norm_ = register_module("norm", std::make_shared<Norm>(config.norm, width, kNormEps));
    linear_out_ = register_module("linear_out", std::make_shared<Linear>(width, shape.out_dim));
  }
  Tensor forward(const Tensor& features) override {
    const Tensor v = linear_in_->forward(features);
    return linear_out_->forward(norm_->forward(vss_->forward(at::gelu(v)) + v));
  }

 private:
  std::shared_ptr<Linear> linear_in_, linear_out_;
  std::shared_ptr<Vss> vss_;
  std::shared_ptr<Norm> norm_;
};

}  // namespace

std::shared_ptr<Connector> make_connector(const ConnectorConfig& config, const ConnectorShape& shape,
                                          const std::map<std::string, ConnectorFactory>& extensions) {
  if (const auto own = extensions.find(config.kind); own != extensions.end()) return own->second(config, shape);
  if (config.kind == "mlp") return std::make_shared<MlpConnector>(shape);
  if (config.kind == "vss_mlp") return std::make_shared<VssMlpConnector>(config.vss, shape);
  if (config.kind == "vss_l2") return std::make_shared<VssL2Connector>(config.vss, shape);
  std::string known = "mlp, vss_mlp, vss_l2";
  for (const auto& [name, factory] : extensions) known += ", " + name;
  throw Error(ExitCode::kUsage, "model.connector.kind", "expected one of " + known + ", got \"" + config.kind + "\"");
}

}  // namespace vlmamba
