#include "vlmamba/ops/reference.h"

#include <ATen/ATen.h>

#include "src/ops/check.h"
#include "vlmamba/ops/scan_order.h"

namespace vlmamba::ops::reference {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Which rows have padding at step t, and which start a run that is not their first: [B] bool each, undefined without
// ids.
struct Runs {
  Tensor ids, started;  // [B,L], [B]

  explicit Runs(const OptionalTensor& seq_idx) {
    if (!seq_idx) return;
    ids = *seq_idx;
    started = at::zeros({ids.size(0)}, ids.options().dtype(at::kBool));
  }
  std::pair<Tensor, Tensor> at_step(int64_t t) {
    if (!ids.defined()) return {};
    const Tensor padding = ids.select(1, t).lt(0);
    const Tensor new_id = t == 0 ? at::ones_like(padding) : ids.select(1, t).ne(ids.select(1, t - 1));
    const Tensor resets = new_id.logical_and(started).logical_and(padding.logical_not());
    started = started.logical_or(padding.logical_not());
    return {padding, resets};
  }
};

// `otherwise` where the row's flag is set. By selection: what is not chosen may be NaN.
Tensor choose(const Tensor& flags, const Tensor& otherwise, const Tensor& tensor) {
  if (!flags.defined()) return tensor;
  std::vector<int64_t> shape(static_cast<size_t>(tensor.dim()), 1);
  shape[0] = flags.size(0);
  return at::where(flags.view(shape), otherwise, tensor);
}

// For each direction the pixels in their order, [K,L] on the device of `like`.
Tensor order_of(std::string_view scan, int64_t height, int64_t width, const Tensor& like) {
  const auto order = scan_order(scan, height, width);
  const auto directions = static_cast<int64_t>(scan_directions(scan).size());
  return at::tensor(at::ArrayRef<int32_t>(order)).to(at::kLong).view({directions, height * width}).to(like.device());
}

Tensor inverse_of(const Tensor& order) { return order.argsort(int64_t{0}, /*descending=*/false); }

Tensor normalised(const Tensor& x, const Tensor& weight, double eps) {  // x in the type of the arithmetic
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight.to(x.scalar_type());
}

}  // namespace

std::tuple<Tensor, Tensor> selective_scan(const Tensor& u_in, const Tensor& delta_in, const Tensor& A, const Tensor& B,
                                          const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                                          const OptionalTensor& delta_bias, bool delta_softplus,
                                          const OptionalTensor& initial_state, const OptionalTensor& seq_idx) {
  const auto type = math_type(u_in);
  const Tensor u = u_in.to(type), a = A.to(type);
  Tensor delta = delta_in.to(type);
  if (delta_bias) delta = delta + delta_bias->to(type);
  if (delta_softplus) delta = at::softplus(delta);
  const auto by_channel = [&](const Tensor& grouped) {  // [B,L,G,N] -> [B,L,D,N]
    return grouped.to(type).repeat_interleave(u.size(2) / grouped.size(2), 2);
  };
  const Tensor b = by_channel(B), c = by_channel(C), nothing = at::zeros({}, u.options());
  Tensor h = initial_state ? *initial_state : at::zeros({u.size(0), u.size(2), A.size(1)}, u.options());
  Runs runs(seq_idx);
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < u.size(1); ++t) {
    const auto [padding, resets] = runs.at_step(t);
    const Tensor d = delta.select(1, t).unsqueeze(-1), x = u.select(1, t);
    const Tensor kept = choose(resets, nothing, at::exp(d * a) * h);
    const Tensor next = kept + d * x.unsqueeze(-1) * b.select(1, t);
    Tensor y = (next * c.select(1, t)).sum(-1);
    if (D) y = y + D->to(type) * x;
    if (z) y = y * at::silu(z->select(1, t).to(type));
    outputs.push_back(choose(padding, nothing, y));
    h = choose(padding, h, next);
  }
  const Tensor y = outputs.empty() ? at::empty_like(u) : at::stack(outputs, 1);
  return {y.to(u_in.scalar_type()), h.clone()};
}

Tensor selective_scan_2d(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                         const OptionalTensor& D, const OptionalTensor& delta_bias, bool delta_softplus,
                         std::string_view scan, int64_t height, int64_t width, bool merge) {
  const auto type = math_type(u);
  const Tensor order = order_of(scan, height, width, u);
  std::vector<Tensor> outputs;
  for (int64_t k = 0; k < delta.size(2); ++k) {
    const Tensor to_sequence = order[k], to_pixels = inverse_of(to_sequence);
    const auto own = [&](const Tensor& tensor) { return tensor.select(2, k).to(type).index_select(1, to_sequence); };
    const auto row = [&](const OptionalTensor& tensor) {
      return tensor ? OptionalTensor(tensor->select(0, k).to(type)) : OptionalTensor();
    };
    const Tensor input = u.dim() == 4 ? own(u) : u.to(type).index_select(1, to_sequence);
    const Tensor y = std::get<0>(selective_scan(input, own(delta), A.select(0, k).to(type), own(B), own(C), row(D), {},
                                                row(delta_bias), delta_softplus));
    outputs.push_back(y.index_select(1, to_pixels));
  }
  const Tensor all = at::stack(outputs, 2);
  return (merge ? all.sum(2) : all).to(u.scalar_type());
}

std::tuple<Tensor, Tensor> causal_conv1d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                         const OptionalTensor& initial_state, const OptionalTensor& seq_idx,
                                         std::string_view activation) {
  const auto type = math_type(x);
  const Tensor taps = weight.to(type).t(), nothing = at::zeros({}, x.options().dtype(type));  // [W,D]
  Tensor window = initial_state ? initial_state->to(type)
                                : at::zeros({x.size(0), weight.size(1) - 1, x.size(2)}, nothing.options());
  Runs runs(seq_idx);
  std::vector<Tensor> outputs;
  for (int64_t t = 0; t < x.size(1); ++t) {
    const auto [padding, resets] = runs.at_step(t);
    const Tensor full = at::cat({choose(resets, nothing, window), x.select(1, t).to(type).unsqueeze(1)}, 1);  // [B,W,D]
    Tensor y = (full * taps).sum(1);
    if (bias) y = y + bias->to(type);
    if (activation == "silu") y = at::silu(y);
    outputs.push_back(choose(padding, nothing, y));
    window = choose(padding, window, full.slice(1, 1));
  }
  const Tensor y = outputs.empty() ? at::empty_like(x) : at::stack(outputs, 1);
  return {y.to(x.scalar_type()), window.to(x.scalar_type()).clone()};
}

Tensor causal_conv1d_2d(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, std::string_view scan,
                        int64_t height, int64_t width, std::string_view activation) {
  const Tensor sequences = cross_scan(x, scan, height, width);  // [B,K,L,D]
  const Tensor order = order_of(scan, height, width, x);
  std::vector<Tensor> outputs;
  for (int64_t k = 0; k < sequences.size(1); ++k) {
    const Tensor own_weight = weight.dim() == 3 ? weight.select(0, k) : weight;
    const OptionalTensor own_bias = bias && bias->dim() == 2 ? bias->select(0, k) : bias;
    const Tensor y = std::get<0>(causal_conv1d(sequences.select(1, k), own_weight, own_bias, {}, {}, activation));
    outputs.push_back(y.index_select(1, inverse_of(order[k])));
  }
  return at::stack(outputs, 2);
}

Tensor cross_scan(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  const Tensor order = order_of(scan, height, width, x);
  return x.index_select(1, order.flatten()).view({x.size(0), order.size(0), order.size(1), x.size(2)});
}

Tensor cross_merge(const Tensor& x, std::string_view scan, int64_t height, int64_t width) {
  const Tensor order = order_of(scan, height, width, x);
  Tensor sum = at::zeros({x.size(0), x.size(2), x.size(3)}, x.options().dtype(math_type(x)));
  for (int64_t k = 0; k < x.size(1); ++k) sum = sum + x.select(1, k).index_select(1, inverse_of(order[k]));
  return sum.to(x.scalar_type());
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return normalised(x.to(math_type(x)), weight, eps).to(x.scalar_type());
}

std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  const Tensor sum = x.to(math_type(x)) + residual.to(math_type(x));
  return {normalised(sum, weight, eps).to(x.scalar_type()), sum};
}

Tensor selective_state_update(Tensor& state, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                              const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
                              const OptionalTensor& delta_bias, bool delta_softplus) {
  const auto as_sequence = [](const OptionalTensor& tensor) {
    return tensor ? OptionalTensor(tensor->unsqueeze(1)) : OptionalTensor();
  };
  auto [y, next] = selective_scan(u.unsqueeze(1), delta.unsqueeze(1), A, B.unsqueeze(1), C.unsqueeze(1), D,
                                  as_sequence(z), delta_bias, delta_softplus, state);
  state.copy_(next);
  return y.squeeze(1);
}

Tensor causal_conv1d_update(const Tensor& x, Tensor& state, const Tensor& weight, const OptionalTensor& bias,
                            std::string_view activation) {
  auto [y, next] = causal_conv1d(x.unsqueeze(1), weight, bias, state, {}, activation);
  state.copy_(next);
  return y.squeeze(1);
}

}  // namespace vlmamba::ops::reference
