#include "vlmamba/nn/forward_trace.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

namespace vlmamba::nn {
namespace {

using at::Tensor;

// Of these the values mean nothing yet.
constexpr std::array<std::string_view, 6> kWithoutValues{
    "aten::empty",     "aten::empty_like",        "aten::empty_strided",
    "aten::new_empty", "aten::new_empty_strided", "aten::resize_"};

struct Origin {
  std::string module;
  bool parameter = false;  // or made of parameters alone
  bool masked = false;     // holds minus infinity by design
};

struct Watched {
  c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl> alive;  // keeps the address from being used again
  Origin origin;
};

// The path of the module around both.
std::string around(const std::string& a, const std::string& b) {
  const std::string left = a + ".", right = b + ".";
  size_t end = 0;
  for (size_t i = 0; i < std::min(left.size(), right.size()) && left[i] == right[i]; ++i)
    if (left[i] == '.') end = i;
  return left.substr(0, end);
}

template <typename Visit>
void visit_tensors(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor() && value.toTensor().defined()) visit(value.toTensor());
  if (value.isTensorList())
    for (const Tensor& tensor : value.toTensorVector()) visit(tensor);
  if (value.isOptionalTensorList())
    for (const std::optional<Tensor> tensor : value.toOptionalTensorList())
      if (tensor && tensor->defined()) visit(*tensor);
}

}  // namespace

struct ForwardTrace::State {
  std::map<const c10::TensorImpl*, Watched> known;
  std::map<std::string, size_t> index;  // of a module's row
  std::vector<Row> rows;
  std::optional<NonFinite> first;
  int depth = 0;
  Origin current;  // what the outermost op's inputs say of its outputs
  at::CallbackHandle handle = 0;
  State* before = nullptr;

  void remember(const Tensor& tensor, const Origin& origin) {
    known.insert_or_assign(
        tensor.unsafeGetTensorImpl(),
        Watched{c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>(tensor.getIntrusivePtr()), origin});
  }

  void enter(const at::RecordFunction& op) {
    if (depth++ > 0) return;
    std::optional<std::string> of_parameters, of_others;
    bool masked = std::string_view(op.name()).starts_with("aten::masked_fill"), other_tensors = false;
    for (const auto& input : op.inputs())
      visit_tensors(input, [&](const Tensor& tensor) {
        const auto found = known.find(tensor.unsafeGetTensorImpl());
        if (found == known.end() || !found->second.origin.parameter) other_tensors = true;
        if (found == known.end()) return;
        const Origin& origin = found->second.origin;
        auto& path = origin.parameter ? of_parameters : of_others;
        path = path ? around(*path, origin.module) : origin.module;
        masked = masked || origin.masked;
      });
    current = {of_parameters.value_or(of_others.value_or("")), of_parameters.has_value() && !other_tensors, masked};
  }

  void leave(const at::RecordFunction& op) {
    if (--depth > 0) return;
    const at::DisableRecordFunctionGuard unwatched;
    const at::NoGradGuard no_grad;
    const std::string name = op.name();
    const bool counts = std::find(kWithoutValues.begin(), kWithoutValues.end(), name) == kWithoutValues.end();
    for (const auto& output : op.outputs())
      visit_tensors(output, [&](const Tensor& tensor) {
        if (const auto found = known.find(tensor.unsafeGetTensorImpl());
            found != known.end() && found->second.origin.parameter)
          return;  // a parameter that was only passed on
        remember(tensor, current);
        if (counts && tensor.is_floating_point() && tensor.numel() > 0) count(tensor, name);
      });
  }

  void count(const Tensor& tensor, const std::string& op) {
    const auto [at, is_new] = index.emplace(current.module, rows.size());
    if (is_new) rows.push_back({current.module});
    Row& row = rows[at->second];
    const Tensor finite = tensor.isfinite();
    Tensor wrong = finite.logical_not();
    if (current.masked) wrong = wrong.logical_and(tensor.ne(-std::numeric_limits<double>::infinity()));
    const auto non_finite = wrong.sum().item<int64_t>();
    row.max_abs = std::max(row.max_abs, at::where(finite, tensor.abs(), 0).max().item<double>());
    row.non_finite += non_finite;
    row.values += tensor.numel();
    if (non_finite > 0 && !first) first = NonFinite{current.module, op, non_finite, tensor.numel()};
  }
};

namespace {

thread_local void* watching = nullptr;

}  // namespace

ForwardTrace::ForwardTrace(const torch::nn::Module& module) : state_(std::make_unique<State>()) {
  for (const auto& parameter : module.named_parameters()) {
    const std::string& name = parameter.key();
    const auto dot = name.rfind('.');
    state_->remember(parameter.value(), {dot == std::string::npos ? "" : name.substr(0, dot), true, false});
  }
  state_->before = static_cast<State*>(std::exchange(watching, state_.get()));
  const auto enter = [](const at::RecordFunction& op) -> std::unique_ptr<at::ObserverContext> {
    static_cast<State*>(watching)->enter(op);
    return nullptr;
  };
  const auto leave = [](const at::RecordFunction& op, at::ObserverContext*) {
    static_cast<State*>(watching)->leave(op);
  };
  state_->handle = at::addThreadLocalCallback(at::RecordFunctionCallback(enter, leave)
                                                  .needsInputs(true)
                                                  .needsOutputs(true)
                                                  .scopes({at::RecordScope::FUNCTION}));
}

ForwardTrace::~ForwardTrace() {
  at::removeCallback(state_->handle);
  watching = state_->before;
}

const std::vector<ForwardTrace::Row>& ForwardTrace::rows() const { return state_->rows; }

const std::optional<ForwardTrace::NonFinite>& ForwardTrace::first_non_finite() const { return state_->first; }

}  // namespace vlmamba::nn
