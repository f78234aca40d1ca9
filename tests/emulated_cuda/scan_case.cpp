#include "tests/emulated_cuda/scan_case.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <ostream>

#include "vlmamba/ops/reference.h"

namespace vlmamba::test {

using at::Tensor;

const std::vector<const char*> kScanGradientNames{"du", "ddelta", "dA", "dB", "dC", "dD", "dz", "dbias", "dinitial"};

std::ostream& operator<<(std::ostream& out, const ScanShape& s) {
  return out << "B " << s.batch << ", L " << s.length << ", D " << s.channels << ", N " << s.states << ", G "
             << s.groups << ", scan '" << s.scan << "' " << s.height << "x" << s.width << ", " << s.type << ", merge "
             << s.merge << ", u per direction " << s.u_per_direction << ", D " << s.skip << ", z " << s.gate
             << ", bias " << s.bias << ", softplus " << s.softplus << ", initial " << s.initial << ", runs " << s.runs
             << ", A to -" << s.largest_rate << ", delta " << s.delta_shift << " +- " << s.delta_scale;
}

namespace {

Tensor runs_of_any_length(int64_t batch, int64_t length) {
  Tensor ids = at::empty({batch, length}, at::kInt);
  for (int64_t row = 0; row < batch; ++row) {
    int id = 0;
    for (int64_t t = 0; t < length;) {
      const int64_t kind = at::randint(5, {1}).item<int64_t>(), most = kind == 0 ? 1 : kind == 4 ? length : 9;
      const int64_t size = std::min(length - t, 1 + at::randint(most, {1}).item<int64_t>());
      const bool padding = kind == 1 || (row == 2 && length < 30);
      ids[row].slice(0, t, t + size).fill_(padding ? -1 : ++id);
      t += size;
    }
  }
  return ids;
}

OptionalTensor defined(const Tensor& tensor) { return tensor.defined() ? OptionalTensor(tensor) : std::nullopt; }

// A slice of something larger: rows of stride 1 that start anywhere.
Tensor strided(const Tensor& x) {
  std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end());
  sizes.back() += 3;
  return at::empty(sizes, x.options()).slice(-1, 1, x.size(-1) + 1).copy_(x);
}

}  // namespace

ScanArguments random_arguments(const ScanShape& s) {
  const at::TensorOptions in = at::TensorOptions(s.type);
  const at::TensorOptions math(s.type == at::kDouble ? at::kDouble : at::kFloat);
  const bool flat = s.scan.empty();
  const int64_t K = s.directions();
  const auto sizes = [&](std::vector<int64_t> inner, bool directions) {
    std::vector<int64_t> all{s.batch, s.length};
    if (directions) all.push_back(K);
    all.insert(all.end(), inner.begin(), inner.end());
    return all;
  };
  const auto parameter = [&](std::vector<int64_t> inner) {
    if (!flat) inner.insert(inner.begin(), K);
    return inner;
  };
  ScanArguments x;
  x.shape = s;
  x.u = strided(at::randn(sizes({s.channels}, s.u_per_direction), in));
  x.delta = (at::randn(sizes({s.channels}, !flat), math) * s.delta_scale + s.delta_shift).to(s.type);
  if (!s.softplus) x.delta = x.delta.abs();
  x.A = -at::rand(parameter({s.channels, s.states}), math) * s.largest_rate;
  x.B = strided(at::randn(sizes({s.groups, s.states}, !flat), in));
  x.C = strided(at::randn(sizes({s.groups, s.states}, !flat), in));
  if (s.skip) x.D = at::randn(parameter({s.channels}), math);
  if (s.gate && flat) x.z = strided(at::randn(sizes({s.channels}, false), in));
  if (s.bias) x.bias = at::randn(parameter({s.channels}), math) * (s.softplus ? 1 : 0);
  if (s.initial && flat) x.initial = at::randn({s.batch, s.channels, s.states}, math);
  if (s.runs && flat) x.seq_idx = runs_of_any_length(s.batch, s.length);
  return x;
}

ScanArguments in_fp64(const ScanArguments& x) {
  const auto wide = [](const OptionalTensor& t) { return t ? OptionalTensor(t->to(at::kDouble)) : std::nullopt; };
  return {x.shape,   *wide(x.u), *wide(x.delta), *wide(x.A),      *wide(x.B), *wide(x.C),
          wide(x.D), wide(x.z),  wide(x.bias),   wide(x.initial), x.seq_idx};
}

ScanArguments on_device(const ScanArguments& x) {
  return {x.shape,        to_device(x.u), to_device(x.delta), to_device(x.A),       to_device(x.B),      to_device(x.C),
          to_device(x.D), to_device(x.z), to_device(x.bias),  to_device(x.initial), to_device(x.seq_idx)};
}

std::vector<Tensor> call_scan(const ScanArguments& x) {
  if (x.shape.scan.empty()) {
    using Signature = std::tuple<Tensor, Tensor>(
        const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
        const OptionalTensor&, const OptionalTensor&, bool, const OptionalTensor&, const OptionalTensor&);
    const auto [y, last] = call_kernel<Signature>("vlmamba::selective_scan", x.u, x.delta, x.A, x.B, x.C, x.D, x.z,
                                                  x.bias, x.shape.softplus, x.initial, x.seq_idx);
    return {y, last};
  }
  using Signature =
      Tensor(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
             const OptionalTensor&, bool, c10::string_view, c10::SymInt, c10::SymInt, bool);
  return {call_kernel<Signature>("vlmamba::selective_scan_2d", x.u, x.delta, x.A, x.B, x.C, x.D, x.bias,
                                 x.shape.softplus, x.shape.scan.c_str(), c10::SymInt(x.shape.height),
                                 c10::SymInt(x.shape.width), x.shape.merge)};
}

std::vector<Tensor> call_scan_backward(const ScanArguments& x, const Tensor& dy, const OptionalTensor& dfinal,
                                       const WantedScanGradients& wanted) {
  const auto given = [](const Tensor& gradient, const OptionalTensor& input) { return input ? gradient : Tensor(); };
  if (x.shape.scan.empty()) {
    using Signature = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
        const Tensor&, const OptionalTensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
        const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool, const OptionalTensor&,
        const OptionalTensor&, WantedScanGradients);
    const auto [du, ddelta, dA, dB, dC, dD, dz, dbias, dinitial] =
        call_kernel<Signature>("vlmamba::selective_scan_backward", dy, dfinal, x.u, x.delta, x.A, x.B, x.C, x.D, x.z,
                               x.bias, x.shape.softplus, x.initial, x.seq_idx, wanted);
    return {du, ddelta, dA, dB, dC, given(dD, x.D), given(dz, x.z), given(dbias, x.bias), given(dinitial, x.initial)};
  }
  using Signature = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
      const OptionalTensor&, bool, c10::string_view, c10::SymInt, c10::SymInt, bool, std::array<bool, 7>);
  const auto& w = wanted;
  const auto [du, ddelta, dA, dB, dC, dD, dbias] = call_kernel<Signature>(
      "vlmamba::selective_scan_2d_backward", dy, x.u, x.delta, x.A, x.B, x.C, x.D, x.bias, x.shape.softplus,
      x.shape.scan.c_str(), c10::SymInt(x.shape.height), c10::SymInt(x.shape.width), x.shape.merge,
      std::array{w[0], w[1], w[2], w[3], w[4], w[5], w[7]});
  return {du, ddelta, dA, dB, dC, given(dD, x.D), Tensor(), given(dbias, x.bias), Tensor()};
}

std::vector<Tensor> on_host(std::vector<Tensor> tensors) {
  for (Tensor& tensor : tensors)
    if (tensor.defined()) tensor = to_host(tensor);
  return tensors;
}

std::vector<Tensor> run_scan(const ScanArguments& x) { return on_host(call_scan(x)); }

std::vector<Tensor> run_scan_backward(const ScanArguments& x, const Tensor& dy, const OptionalTensor& dfinal,
                                      const WantedScanGradients& wanted) {
  return on_host(call_scan_backward(x, dy, dfinal, wanted));
}

std::vector<Tensor> reference_scan(const ScanArguments& x) {
  namespace r = ops::reference;
  const ScanShape& s = x.shape;
  if (s.scan.empty()) {
    const auto [y, last] =
        r::selective_scan(x.u, x.delta, x.A, x.B, x.C, x.D, x.z, x.bias, s.softplus, x.initial, x.seq_idx);
    return {y, last};
  }
  return {
      r::selective_scan_2d(x.u, x.delta, x.A, x.B, x.C, x.D, x.bias, s.softplus, s.scan, s.height, s.width, s.merge)};
}

std::vector<Tensor> reference_scan_backward(const ScanArguments& x, const Tensor& dy, const OptionalTensor& dfinal) {
  std::vector<Tensor> inputs, leaves;
  for (const auto& input : {OptionalTensor(x.u), OptionalTensor(x.delta), OptionalTensor(x.A), OptionalTensor(x.B),
                            OptionalTensor(x.C), x.D, x.z, x.bias, x.initial}) {
    inputs.push_back(input ? input->detach().clone().requires_grad_() : Tensor());
    if (input) leaves.push_back(inputs.back());
  }
  const auto& i = inputs;
  auto outputs = reference_scan(
      {x.shape, i[0], i[1], i[2], i[3], i[4], defined(i[5]), defined(i[6]), defined(i[7]), defined(i[8]), x.seq_idx});
  std::vector<Tensor> weights{dy};
  if (dfinal) weights.push_back(*dfinal);
  outputs.resize(weights.size());
  const auto found = torch::autograd::grad(outputs, leaves, weights, {}, false, /*allow_unused=*/true);
  std::vector<Tensor> gradients;
  size_t next = 0;
  for (const Tensor& input : inputs) {
    gradients.push_back(Tensor());
    if (!input.defined()) continue;
    gradients.back() = found[next].defined() ? found[next] : at::zeros_like(input);
    ++next;
  }
  return gradients;
}

}  // namespace vlmamba::test
