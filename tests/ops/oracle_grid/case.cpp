#include "tests/ops/oracle_grid/case.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>

namespace vlmamba::oracle {

int64_t Case::integer(int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random_() % static_cast<uint64_t>(most - least + 1));
}

double Case::uniform(double least, double most) {
  return least + (most - least) * (static_cast<double>(random_() >> 11) / 9007199254740992.0);
}

bool Case::chance(double probability) { return uniform(0, 1) < probability; }

bool Case::flag(const char* name, double probability) {
  const bool value = chance(probability);
  if (value) choices_ << " " << name;
  return value;
}

at::Tensor Case::even(at::IntArrayRef shape, at::ScalarType type, double least, double most) {
  const at::Tensor values = at::empty(shape, at::kDouble);
  double* to = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) to[i] = uniform(least, most);
  return laid_out(values.to(type).to(setting.device));
}

at::Tensor Case::normal(at::IntArrayRef shape, at::ScalarType type, double deviation, double mean) {
  const at::Tensor values = at::empty(shape, at::kDouble);
  double* to = values.data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i)
    to[i] = mean + deviation * std::sqrt(-2 * std::log(uniform(1e-12, 1))) * std::cos(uniform(0, 6.283185307179586));
  return laid_out(values.to(type).to(setting.device));
}

at::Tensor Case::laid_out(const at::Tensor& values) {
  const int64_t kind = integer(0, 9), dims = values.dim();
  if (kind < 4 || dims == 0) return values;
  if (kind == 4 && dims >= 2) {  // the last dimension is not the dense one
    return values.transpose(-1, -2).contiguous().transpose(-1, -2);
  }
  if (kind == 5 && dims >= 2) return values.transpose(0, 1).contiguous().transpose(0, 1);
  if (kind == 6 && values.size(0) > 1) {  // one row for all
    return values.narrow(0, 0, 1).expand(values.sizes());
  }
  const int64_t dim = kind == 7 ? 0 : dims - 1;  // a slice of something larger, at an odd offset
  auto shape = values.sizes().vec();
  shape[static_cast<size_t>(dim)] += 3;
  const at::Tensor larger = at::full(shape, 1e3, values.options());
  const at::Tensor part = larger.narrow(dim, 1, values.size(dim));
  part.copy_(values);
  return part;
}

at::ScalarType Case::input_type() {
  return pick<at::ScalarType>(
      "type", {at::kFloat, at::kFloat, at::kFloat, at::kBFloat16, at::kBFloat16, at::kHalf, at::kDouble, at::kDouble});
}

at::ScalarType Case::weight_type(at::ScalarType input) {
  if (input == at::kDouble || input == at::kFloat) return input;
  return flag("narrow_weights", 0.4) ? input : at::kFloat;
}

OptionalTensor Case::sequences(int64_t rows, int64_t length) {
  if (!flag("seq_idx", 0.4)) return {};
  const at::Tensor ids = at::empty({rows, length}, at::kInt);
  int* to = ids.data_ptr<int>();
  const int64_t longest = integer(1, std::max<int64_t>(1, length));
  for (int64_t b = 0; b < rows; ++b) {
    int id = static_cast<int>(integer(0, 3));
    const bool all_padding = chance(0.08);
    int64_t left = 0;
    bool padding = false;
    for (int64_t t = 0; t < length; ++t, --left) {
      if (left == 0) {
        left = integer(1, longest);
        padding = chance(0.3);
        if (!padding) id = chance(0.2) ? id : id + static_cast<int>(integer(1, 5));
      }
      *to++ = all_padding || padding ? -1 : id;
    }
  }
  return ids.to(setting.device);
}

template <typename M>
Numbers<M> numbers(const OptionalTensor& tensor) {
  Numbers<M> result;
  if (!tensor || !tensor->defined()) return result;
  const at::Tensor values = tensor->detach().to(at::kCPU).to(at::kDouble).contiguous();
  result = Numbers<M>(values.sizes().vec());
  const double* from = values.data_ptr<double>();
  for (auto& number : result.values()) number = *from++;
  return result;
}
template Numbers<float> numbers(const OptionalTensor&);
template Numbers<double> numbers(const OptionalTensor&);

Array<int> ids(const OptionalTensor& tensor) {
  Array<int> result;
  if (!tensor) return result;
  const at::Tensor values = tensor->to(at::kCPU).contiguous();
  result = Array<int>(values.sizes().vec());
  std::copy_n(values.data_ptr<int>(), values.numel(), result.values().begin());
  return result;
}

namespace {

struct Rounding {
  double unit, least, most;  // half a unit in the last place, half the least subnormal number, the largest number
};

Rounding rounding_of(at::ScalarType type) {
  switch (type) {
    case at::kBFloat16:
      return {1.0 / 256, 1e-38, 3.38e38};
    case at::kHalf:
      return {1.0 / 2048, 3e-8, 65504};
    case at::kFloat:
      return {6e-8, 1.2e-38, 3.4e38};
    default:
      return {1.2e-16, 0, 1e300};
  }
}

}  // namespace

template <typename M>
void Case::compare(const std::string& name, const at::Tensor& got, const Numbers<M>& expected, at::ScalarType type) {
  if (!got.defined()) return fail(name + ": expected a tensor, got none");
  if (got.sizes() != at::IntArrayRef(expected.shape()) || got.scalar_type() != type) {
    std::ostringstream message;
    message << name << ": expected " << type << at::IntArrayRef(expected.shape()) << ", got " << got.scalar_type()
            << got.sizes();
    return fail(message.str());
  }
  const auto rounding = rounding_of(type);
  const at::Tensor values = got.detach().to(at::kCPU).to(at::kDouble).contiguous();
  const double* value = values.data_ptr<double>();
  double& most_used = used_[name];
  int64_t wrong = 0;
  std::ostringstream first;
  for (size_t i = 0; i < expected.values().size(); ++i) {
    const auto& e = expected.values()[i];
    const double allowed = setting.margin * e.error + rounding.unit * (std::fabs(e.value) + e.error) + rounding.least;
    const bool may_overflow = std::fabs(e.value) + allowed > 0.99 * rounding.most || !std::isfinite(e.error);
    const double off = std::fabs(value[i] - e.value);
    if (may_overflow) continue;
    if (off <= allowed) {
      most_used = std::max(most_used, off / allowed);
    } else if (wrong++ == 0) {
      first << name << "[" << i << "]: expected " << e.value << " within " << allowed << ", got " << value[i];
    }
  }
  if (wrong > 0) fail(first.str() + " (" + std::to_string(wrong) + " of " + std::to_string(values.numel()) + " wrong)");
}
template void Case::compare(const std::string&, const at::Tensor&, const Numbers<float>&, at::ScalarType);
template void Case::compare(const std::string&, const at::Tensor&, const Numbers<double>&, at::ScalarType);

void Case::expect_same(const std::string& name, const at::Tensor& a, const at::Tensor& b, const at::Tensor& apart) {
  if (a.defined() != b.defined()) return fail(name + ": a tensor in one run, none in the other");
  if (!a.defined()) return;
  const auto kept = [&](const at::Tensor& x) {
    return apart.defined() ? x.detach().masked_fill(apart.to(x.device()), 0) : x.detach();
  };
  const at::Tensor x = kept(a), y = kept(b);
  if (!x.eq(y).logical_or(x.isnan().logical_and(y.isnan())).all().item<bool>())
    fail(name + ": differs from the first run");
}

void Case::expect_repeatable(const Computation& computation, const Tensors& first) {
  const int before = at::get_num_threads();
  const auto threads = static_cast<int>(integer(1, 5));
  at::set_num_threads(threads == before ? threads + 1 : threads);
  std::vector<OptionalTensor> inputs;
  for (const auto& input : computation.inputs) inputs.push_back(input.tensor);
  const Tensors again = computation.run(inputs);
  at::set_num_threads(before);
  for (size_t i = 0; i < first.size(); ++i)
    if (first[i].defined()) expect_same(std::string(computation.results[i].name) + " again", again[i], first[i]);
  if (chance(0.25)) expect_apart(computation, /*channels=*/false);
  if (chance(0.25)) expect_apart(computation, /*channels=*/true);
}

void Case::expect_apart(const Computation& computation, bool channels) {
  const int64_t dim = channels ? -1 : 0, size = computation.inputs[0].tensor->size(dim);
  if (size < 2) return;
  const int64_t bad = integer(0, size - 1);
  std::vector<OptionalTensor> inputs;
  for (const auto& input : computation.inputs) {
    inputs.push_back(input.tensor);
    if (inputs.back()) inputs.back() = inputs.back()->detach().clone(at::MemoryFormat::Contiguous);
  }
  const Tensors clean = computation.run(inputs);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i] && (!channels || computation.inputs[i].channels) && chance(0.7))
      inputs[i]->select(dim, bad).fill_(std::numeric_limits<double>::quiet_NaN());
  const Tensors spoilt = computation.run(inputs);
  for (size_t i = 0; i < clean.size(); ++i) {
    const auto& result = computation.results[i];
    if (!(channels ? result.channels : result.rows)) continue;
    const at::Tensor apart = at::zeros(clean[i].sizes(), at::kBool);
    apart.select(dim, bad).fill_(true);
    expect_same(std::string(result.name) + (channels ? " beside a channel" : " beside a row") + " of NaN", spoilt[i],
                clean[i], apart);
  }
}

Differentiated differentiate(Case& c, const std::vector<at::Tensor>& outputs,
                             const std::vector<OptionalTensor*>& inputs, const std::vector<bool>& wanted) {
  Differentiated result;
  std::vector<at::Tensor> used, cotangents, leaves;
  const auto always = static_cast<size_t>(c.integer(0, static_cast<int64_t>(outputs.size()) - 1));
  for (size_t o = 0; o < outputs.size(); ++o) {
    const bool use = o == always || c.chance(0.7);
    result.cotangents.push_back(use ? c.normal(outputs[o].sizes(), outputs[o].scalar_type()) : at::Tensor());
    if (!use) continue;
    used.push_back(outputs[o]);
    cotangents.push_back(result.cotangents.back());
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (wanted[i]) leaves.push_back(**inputs[i]);
  const bool differentiable = std::any_of(used.begin(), used.end(), [](const auto& x) { return x.requires_grad(); });
  result.gradients.resize(inputs.size());
  if (leaves.empty() || !differentiable) return result;
  const auto gradients = torch::autograd::grad(used, leaves, cotangents, /*retain_graph=*/true, /*create_graph=*/false,
                                               /*allow_unused=*/true);
  for (size_t i = 0, next = 0; i < inputs.size(); ++i)
    if (wanted[i]) result.gradients[i] = gradients[next++];
  return result;
}

}  // namespace vlmamba::oracle
