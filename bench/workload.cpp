#include "bench/workload.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "vlmamba/nn/vss.h"
#include "vlmamba/ops/causal_conv1d.h"
#include "vlmamba/ops/cross_scan.h"
#include "vlmamba/ops/reference.h"
#include "vlmamba/ops/rms_norm.h"
#include "vlmamba/ops/selective_scan.h"
#include "vlmamba/ops/selective_scan_2d.h"
#include "vlmamba/ops/selective_state_update.h"

namespace vlmamba::bench {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// Draws the inputs of one workload: activations in the type asked for, weights and states in fp32 (fp64 for fp64).
class Inputs {
 public:
  Inputs(at::ScalarType type, at::Device device, bool gradients)
      : type_(type), math_(type == at::kDouble ? at::kDouble : at::kFloat), device_(device), gradients_(gradients) {
    at::manual_seed(1);
  }

  Tensor activation(at::IntArrayRef shape) { return keep(at::randn(shape, options()).to(type_)); }
  Tensor weight(at::IntArrayRef shape) { return keep(at::randn(shape, options()).to(math_)); }
  /// softplus of it is a usual step size.
  Tensor delta(at::IntArrayRef shape) { return keep((at::randn(shape, options()) - 4).to(type_)); }
  /// -1 .. -N, as initialised.
  Tensor decay(std::vector<int64_t> shape) {
    return keep(-at::arange(1, shape.back() + 1, options()).expand(shape).contiguous().to(math_));
  }
  std::vector<Tensor> all() const { return all_; }

 private:
  at::TensorOptions options() const { return at::TensorOptions(at::kFloat).device(device_); }
  Tensor keep(const Tensor& tensor) {
    all_.push_back(gradients_ ? tensor.detach().requires_grad_() : tensor);
    return all_.back();
  }

  at::ScalarType type_, math_;
  at::Device device_;
  bool gradients_;
  std::vector<Tensor> all_;
};

std::vector<Tensor> both(const std::tuple<Tensor, Tensor>& pair) { return {std::get<0>(pair), std::get<1>(pair)}; }

Workload scan(const Shape& s, Inputs in) {
  const Tensor u = in.activation({s.B, s.L, s.D}), delta = in.delta({s.B, s.L, s.D}), A = in.decay({s.D, s.N});
  const Tensor B = in.activation({s.B, s.L, s.G, s.N}), C = in.activation({s.B, s.L, s.G, s.N});
  Optional D, z, bias;
  if (s.gated) D = in.weight({s.D}), z = in.activation({s.B, s.L, s.D}), bias = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] { return std::vector{std::get<0>(ops::selective_scan(u, delta, A, B, C, D, z, bias, true))}; };
  w.reference = [=] {
    return std::vector{std::get<0>(ops::reference::selective_scan(u, delta, A, B, C, D, z, bias, true))};
  };
  return w;
}

Workload scan_2d(const Shape& s, Inputs in) {
  const Tensor u = in.activation({s.B, s.L, s.D}), delta = in.delta({s.B, s.L, s.K, s.D}),
               A = in.decay({s.K, s.D, s.N});
  const Tensor B = in.activation({s.B, s.L, s.K, s.G, s.N}), C = in.activation({s.B, s.L, s.K, s.G, s.N});
  const Tensor D = in.weight({s.K, s.D}), bias = in.weight({s.K, s.D});
  Workload w{in.all()};
  w.run = [=] {
    return std::vector{ops::selective_scan_2d(u, delta, A, B, C, D, bias, true, s.scan(), s.height, s.width)};
  };
  w.reference = [=] {
    return std::vector{
        ops::reference::selective_scan_2d(u, delta, A, B, C, D, bias, true, s.scan(), s.height, s.width)};
  };
  return w;
}

Workload conv(const Shape& s, Inputs in) {
  const Tensor x = in.activation({s.B, s.L, s.D}), weight = in.weight({s.D, s.W}), bias = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] { return std::vector{std::get<0>(ops::causal_conv1d(x, weight, bias, {}, {}, "silu"))}; };
  w.reference = [=] {
    return std::vector{std::get<0>(ops::reference::causal_conv1d(x, weight, bias, {}, {}, "silu"))};
  };
  return w;
}

Workload conv_2d(const Shape& s, Inputs in) {
  const Tensor x = in.activation({s.B, s.L, s.D}), weight = in.weight({s.D, s.W}), bias = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] { return std::vector{ops::causal_conv1d_2d(x, weight, bias, s.scan(), s.height, s.width, "silu")}; };
  w.reference = [=] {
    return std::vector{ops::reference::causal_conv1d_2d(x, weight, bias, s.scan(), s.height, s.width, "silu")};
  };
  return w;
}

Workload norm(const Shape& s, Inputs in) {
  const Tensor x = in.activation({s.B, s.L, s.D}), weight = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] { return std::vector{ops::rms_norm(x, weight)}; };
  w.reference = [=] { return std::vector{ops::reference::rms_norm(x, weight)}; };
  return w;
}

Workload add_norm(const Shape& s, Inputs in) {
  const Tensor x = in.activation({s.B, s.L, s.D}), residual = in.weight({s.B, s.L, s.D}), weight = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] { return both(ops::add_rms_norm(x, residual, weight)); };
  w.reference = [=] { return both(ops::reference::add_rms_norm(x, residual, weight)); };
  return w;
}

Workload cross(const Shape& s, Inputs in, bool merge) {
  const Tensor x = merge ? in.activation({s.B, s.K, s.L, s.D}) : in.activation({s.B, s.L, s.D});
  Workload w{in.all()};
  w.run = [=] {
    const auto op = merge ? ops::cross_merge : ops::cross_scan;
    return std::vector{op(x, s.scan(), s.height, s.width)};
  };
  w.reference = [=] {
    const auto op = merge ? ops::reference::cross_merge : ops::reference::cross_scan;
    return std::vector{op(x, s.scan(), s.height, s.width)};
  };
  return w;
}

Workload state_update(const Shape& s, Inputs in) {
  const Tensor u = in.activation({s.B, s.D}), delta = in.delta({s.B, s.D}), A = in.decay({s.D, s.N});
  const Tensor B = in.activation({s.B, s.G, s.N}), C = in.activation({s.B, s.G, s.N}), D = in.weight({s.D});
  const Tensor z = in.activation({s.B, s.D}), bias = in.weight({s.D}), state = in.weight({s.B, s.D, s.N});
  Workload w{in.all()};
  w.run = [=] {
    Tensor own = state;
    return std::vector{ops::selective_state_update(own, u, delta, A, B, C, D, z, bias, true)};
  };
  w.reference = [=] {
    Tensor own = state;
    return std::vector{ops::reference::selective_state_update(own, u, delta, A, B, C, D, z, bias, true)};
  };
  return w;
}

Workload conv_update(const Shape& s, Inputs in) {
  const Tensor x = in.activation({s.B, s.D}), state = in.activation({s.B, s.W - 1, s.D});
  const Tensor weight = in.weight({s.D, s.W}), bias = in.weight({s.D});
  Workload w{in.all()};
  w.run = [=] {
    Tensor own = state;
    return std::vector{ops::causal_conv1d_update(x, own, weight, bias, "silu")};
  };
  w.reference = [=] {
    Tensor own = state;
    return std::vector{ops::reference::causal_conv1d_update(x, own, weight, bias, "silu")};
  };
  return w;
}

Workload vss(const Shape& s, at::ScalarType type, at::Device device) {
  at::manual_seed(1);
  nn::VssConfig config;
  config.scan = s.K == 1 ? nn::Scan::kForward : s.K == 2 ? nn::Scan::kBidirectional : nn::Scan::kCross;
  config.block = s.block == "ss2d" ? nn::Block::kSs2d : nn::Block::kMamba;
  config.d_state = s.N;
  auto module = std::make_shared<nn::Vss>(config, s.D, s.height, s.width);
  module->to(device, type);
  const Tensor x = Inputs(type, device, true).activation({s.B, s.L, s.D});
  Workload w;
  w.inputs = module->parameters();
  w.inputs.push_back(x);
  w.run = [module, x] { return std::vector{module->forward(x)}; };
  return w;
}

double elements(const Shape& s) {
  return static_cast<double>(s.B) * static_cast<double>(s.L) * static_cast<double>(s.D);
}
double size_of(const Tensor& tensor) {
  return static_cast<double>(tensor.numel()) * static_cast<double>(tensor.element_size());
}
double total(const std::vector<Tensor>& tensors) {
  double sum = 0;
  for (const Tensor& tensor : tensors) sum += size_of(tensor);
  return sum;
}

bool in_place(const std::string& op) { return op.ends_with("update"); }

// Inputs read and outputs written once; backward reads the inputs again and the output's gradient, and writes theirs.
void add_costs(const Shape& s, Workload& w) {
  const double in = total(w.inputs), out = [&] {
    const c10::NoGradGuard no_grad;
    return total(w.run());
  }();
  const double state = in_place(s.op) ? size_of(w.inputs.back()) : 0;
  w.forward.bytes = in + out + (s.op == "selective_state_update" ? state : 0);
  w.backward.bytes = s.op.starts_with("cross") ? in + out : 2 * in + out;
  if (s.op.find("scan") != std::string::npos || s.op == "selective_state_update") {
    if (s.op.starts_with("cross")) return;
    const double per_direction = elements(s) * static_cast<double>(s.K);
    w.forward.steps = w.backward.steps = per_direction * static_cast<double>(s.N);
    w.forward.exps = w.backward.exps = w.forward.steps + per_direction + (s.gated && !s.map() ? elements(s) : 0);
  } else if (s.op.starts_with("causal")) {
    w.forward.exps = w.backward.exps = elements(s) * static_cast<double>(s.K);
  }
}

Workload make(const Shape& s, at::ScalarType type, at::Device device) {
  const Inputs in(type, device, !in_place(s.op));
  if (s.op == "selective_scan") return scan(s, in);
  if (s.op == "selective_scan_2d") return scan_2d(s, in);
  if (s.op == "causal_conv1d") return conv(s, in);
  if (s.op == "causal_conv1d_2d") return conv_2d(s, in);
  if (s.op == "rms_norm") return norm(s, in);
  if (s.op == "add_rms_norm") return add_norm(s, in);
  if (s.op == "cross_scan") return cross(s, in, false);
  if (s.op == "cross_merge") return cross(s, in, true);
  if (s.op == "selective_state_update") return state_update(s, in);
  if (s.op == "causal_conv1d_update") return conv_update(s, in);
  return vss(s, type, device);
}

}  // namespace

Workload make_workload(const Shape& shape, at::ScalarType type, at::Device device) {
  Workload workload = make(shape, type, device);
  workload.differentiable = !in_place(shape.op);
  if (shape.op != "vss") add_costs(shape, workload);
  return workload;
}

double bytes_of(const Shape& s, at::ScalarType type) {
  const double directions = static_cast<double>(s.K), size = static_cast<double>(c10::elementSize(type));
  double tensors = 8;  // u, delta, z, y and their gradients
  if (s.op == "selective_scan_2d") tensors = 6 + 2 * directions;
  if (s.op == "causal_conv1d_2d" || s.op.starts_with("cross")) tensors = 2 + 2 * directions;
  if (s.op == "vss") tensors = 2 * (12 + 16 * directions);  // expand = 2: inner tensors are twice as wide
  double of_states = 0, weights = 0;                        // B, C and their gradients; A, or taps
  if (s.op.starts_with("selective") || s.op == "vss") {
    of_states = 4 * directions * static_cast<double>(s.B) * static_cast<double>(s.L) * static_cast<double>(s.G) *
                static_cast<double>(s.N);
    weights = 2 * directions * static_cast<double>(s.D) * static_cast<double>(s.N);
  }
  if (s.op.starts_with("causal")) weights = 2 * directions * static_cast<double>(s.D) * static_cast<double>(s.W);
  return (tensors * elements(s) + of_states + weights) * size;
}

}  // namespace vlmamba::bench
