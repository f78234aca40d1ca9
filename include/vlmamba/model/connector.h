#pragma once

#include <torch/nn/module.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "vlmamba/core/fields.h"
#include "vlmamba/io/json.h"
#include "vlmamba/nn/vss.h"

namespace vlmamba {

/// `kind` is mlp, vss_mlp, vss_l2, or a name of Extensions. Sections that the kind does not use are legal.
struct ConnectorConfig {
  std::string kind = "vss_l2";
  nn::VssConfig vss;
  io::Json options = io::Json::object();
  std::string pretrained;

  template <typename F>
  void visit(F& f) {
    f("kind", kind, "mlp, vss_mlp, vss_l2, or a connector of your own program");
    f("vss", vss, "the vision selective scan (vss_mlp, vss_l2)");
    f("options", options, "of a connector of your own program, which reads them with io::from_json");
    f("pretrained", pretrained,
      "weights: a file (LLaVA's mm_projector.bin too, for mlp), or a checkpoint; empty: fresh weights");
  }
};

/// What a connector joins: features of in_dim channels on a map of height * width, and embeddings of out_dim.
struct ConnectorShape {
  int64_t in_dim, out_dim, height, width;
};

/// Patch features to the language model's embeddings.
class Connector : public torch::nn::Module {
 public:
  /// [I,P,Dv] -> [I,P,D]
  virtual at::Tensor forward(const at::Tensor& features) = 0;
};

using ConnectorFactory = std::function<std::shared_ptr<Connector>(const ConnectorConfig&, const ConnectorShape&)>;

/// mlp: Linear–GELU–Linear (LLaVA-1.5). The paper's (arXiv 2403.13600): vss_mlp: MLP(Norm(VSS(V) + V));
/// vss_l2: V' = Linear(V), V_scan = VSS(GELU(V')), Linear(Norm(V_scan + V')). Throws Error (usage) for other kinds.
std::shared_ptr<Connector> make_connector(const ConnectorConfig& config, const ConnectorShape& shape,
                                          const std::map<std::string, ConnectorFactory>& extensions = {});

}  // namespace vlmamba
