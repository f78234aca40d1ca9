#include "vlmamba/dist/gradient_buckets.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <functional>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using at::Tensor;
using torch::autograd::Node;
using torch::autograd::variable_list;

constexpr int64_t kAlignment = 64;  // elements, of every rank's chunk

struct AfterAccumulation : torch::autograd::FunctionPostHook {
  explicit AfterAccumulation(std::function<void()> does) : call(std::move(does)) {}
  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    call();
    return outputs;
  }
  std::function<void()> call;
};

}  // namespace

struct GradientBuckets::Hooks {
  struct Hook {
    std::shared_ptr<Node> node;  // what adds to the gradient: gone with its last owner
    uintptr_t key;
  };
  std::vector<Hook> list;
};

GradientBuckets::GradientBuckets(Comm& comm, std::vector<Tensor> parameters, int64_t bucket_bytes, bool scattered)
    : comm_(comm),
      parameters_(std::move(parameters)),
      scattered_(scattered),
      places_(parameters_.size()),
      hooks_(std::make_unique<Hooks>()) {
  std::vector<size_t> members;
  int64_t bytes = 0;
  for (size_t i = parameters_.size(); i-- > 0;) {
    const bool fits = members.empty() || (bytes + static_cast<int64_t>(parameters_[i].nbytes()) <= bucket_bytes &&
                                          parameters_[i].scalar_type() == parameters_[members[0]].scalar_type());
    if (!fits) {
      make_bucket(members);
      members.clear();
      bytes = 0;
    }
    members.push_back(i);
    bytes += static_cast<int64_t>(parameters_[i].nbytes());
  }
  if (!members.empty()) make_bucket(members);
  watch_gradients();
  zero();
}

GradientBuckets::~GradientBuckets() {
  for (const auto& hook : hooks_->list) hook.node->del_post_hook(hook.key);
}

void GradientBuckets::make_bucket(const std::vector<size_t>& members) {
  int64_t count = 0;
  for (const size_t i : members) {
    places_[i] = {buckets_.size(), count};
    count += parameters_[i].numel();
  }
  const int64_t step = kAlignment * comm_.size();
  buckets_.push_back(
      {at::zeros({(count + step - 1) / step * step}, parameters_[members[0]].options().requires_grad(false)), members});
}

void GradientBuckets::watch_gradients() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    auto node = torch::autograd::impl::grad_accumulator(parameters_[i]);
    const auto key = node->add_post_hook(std::make_unique<AfterAccumulation>([this, i] { gradient_came(i); }));
    hooks_->list.push_back({std::move(node), key});
  }
}

void GradientBuckets::zero() {
  sending_ = false;
  next_ = 0;
  for (auto& bucket : buckets_) {
    bucket.running.reset();
    bucket.flat.zero_();
    for (const size_t i : bucket.members)
      parameters_[i].mutable_grad() =
          bucket.flat.slice(0, places_[i].offset, places_[i].offset + parameters_[i].numel())
              .view(parameters_[i].sizes());
  }
}

void GradientBuckets::sum_in_next_backward() {
  sending_ = true;
  for (auto& bucket : buckets_) bucket.missing = bucket.members.size();
}

void GradientBuckets::gradient_came(size_t parameter) {
  if (!sending_) return;
  Bucket& bucket = buckets_[places_[parameter].bucket];
  if (bucket.missing == 0)
    throw Error(ExitCode::kInternal, "gradients", "expected one of each parameter in a backward, got a second one");
  --bucket.missing;
  send_complete_buckets();
}

void GradientBuckets::send_complete_buckets() {
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) send(buckets_[next_++]);
}

void GradientBuckets::send(Bucket& bucket) {
  const at::NoGradGuard no_grad;
  bucket.running = scattered_ ? comm_.start_sum_scattered(bucket.flat) : comm_.start_sum(bucket.flat);
}

void GradientBuckets::finish() {
  sending_ = false;
  while (next_ < buckets_.size()) send(buckets_[next_++]);
  for (auto& bucket : buckets_) {
    bucket.running->wait();
    bucket.running.reset();
  }
  next_ = 0;
}

GradientBuckets::Range GradientBuckets::owned(size_t parameter) const {
  const int64_t count = parameters_[parameter].numel();
  if (!scattered_) return {0, count};
  const Place& place = places_[parameter];
  const int64_t chunk = buckets_[place.bucket].flat.numel() / comm_.size();
  const auto inside = [&](int64_t position) { return std::clamp<int64_t>(position - place.offset, 0, count); };
  return {inside(comm_.rank() * chunk), inside((comm_.rank() + 1) * chunk)};
}

void GradientBuckets::share_parameters() {
  if (!scattered_) return;
  const at::NoGradGuard no_grad;
  for (auto& bucket : buckets_) {
    for (const size_t i : bucket.members) {
      const auto [begin, end] = owned(i);
      bucket.flat.slice(0, places_[i].offset + begin, places_[i].offset + end)
          .copy_(parameters_[i].view(-1).slice(0, begin, end));
    }
    bucket.running = comm_.start_gather(bucket.flat);
  }
  for (auto& bucket : buckets_) {
    bucket.running->wait();
    bucket.running.reset();
    for (const size_t i : bucket.members)
      parameters_[i].view(-1).copy_(
          bucket.flat.slice(0, places_[i].offset, places_[i].offset + parameters_[i].numel()));
  }
}

}  // namespace vlmamba
