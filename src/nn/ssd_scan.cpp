#include "vlmamba/nn/ssd_scan.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "vlmamba/nn/autocast.h"

namespace vlmamba::nn {
namespace {

using at::Tensor;

// The number of each position's run in its row, counted from 1; 0 for padding. [B,L]
Tensor number_runs(const Tensor& seq_idx) {
  const Tensor starts =
      at::cat({at::ones_like(seq_idx.slice(1, 0, 1)), seq_idx.slice(1, 1).ne(seq_idx.slice(1, 0, -1))}, 1);
  return starts.cumsum(1).masked_fill(seq_idx.lt(0), 0);
}

// One group's B or C for each head: [B,T,G,N] -> [B,H,T,N].
Tensor per_head(const Tensor& groups, int64_t heads) {
  return groups.repeat_interleave(heads / groups.size(2), 2).transpose(1, 2);
}

}  // namespace

std::tuple<Tensor, Tensor> ssd_scan(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B,
                                    const Tensor& C, const Tensor& D, const Tensor& initial_state,
                                    const Tensor& seq_idx, int64_t chunk) {
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Autocast in_this_type(x.device().type(), at::kFloat);
  const int64_t batch = x.size(0), length = x.size(1), heads = x.size(2);
  const bool runs_given = seq_idx.defined();
  const Tensor runs = runs_given ? number_runs(seq_idx) : Tensor();
  const auto clean = [&](const Tensor& tensor) {  // padding becomes zero by selection
    const Tensor wide = tensor.to(type);
    if (!runs_given) return wide;
    return wide.masked_fill(runs.eq(0).view({batch, length, 1}).unflatten(2, std::vector<int64_t>(tensor.dim() - 2, 1)),
                            0);
  };
  const Tensor xs = clean(x), dts = clean(dt), Bs = clean(B), Cs = clean(C);
  Tensor state = initial_state.defined() ? initial_state.to(type)
                                         : at::zeros({batch, heads, x.size(3), B.size(3)}, x.options().dtype(type));
  // The run that the state belongs to: an initial state is that of the first run; 0 in a row of nothing but padding.
  Tensor state_run;
  if (runs_given && length > 0) {
    constexpr auto kNone = std::numeric_limits<int64_t>::max();
    const Tensor first = runs.masked_fill(runs.eq(0), kNone).amin(1, /*keepdim=*/true);
    state_run = first.masked_fill(first.eq(kNone), 0);
  }
  std::vector<Tensor> outputs;
  for (int64_t first = 0; first < length; first += chunk) {
    const auto part = [&](const Tensor& tensor) { return tensor.slice(1, first, first + chunk); };
    const Tensor step = part(dts);                                              // [B,T,H]
    const Tensor decay = (step * A.to(type)).cumsum(1).transpose(1, 2);         // log of it, [B,H,T]
    const Tensor input = (part(xs) * step.unsqueeze(-1)).transpose(1, 2);       // [B,H,T,P]
    const Tensor b = per_head(part(Bs), heads), c = per_head(part(Cs), heads);  // [B,H,T,N]
    const int64_t t = step.size(1);
    Tensor allowed = at::ones({t, t}, x.options().dtype(at::kBool)).tril().view({1, 1, t, t});
    Tensor from_state = at::ones({1, 1, 1}, x.options().dtype(at::kBool)), to_state = from_state, kept = from_state;
    if (runs_given) {
      const Tensor run = part(runs);
      allowed = allowed & run.unsqueeze(2).eq(run.unsqueeze(1)).unsqueeze(1);
      const Tensor last = at::maximum(run.amax(1, /*keepdim=*/true), state_run);
      from_state = run.eq(state_run).unsqueeze(1);
      to_state = run.eq(last).unsqueeze(1);
      kept = last.eq(state_run).unsqueeze(1);
      state_run = last;
    }
    constexpr double kNever = -std::numeric_limits<double>::infinity();
    const Tensor weights = (decay.unsqueeze(3) - decay.unsqueeze(2)).masked_fill(~allowed, kNever).exp();
    const Tensor whole = decay.slice(2, t - 1);  // [B,H,1]
    const Tensor carried = c.matmul(state.transpose(2, 3)) * decay.masked_fill(~from_state, kNever).exp().unsqueeze(3);
    const Tensor y = (c.matmul(b.transpose(2, 3)) * weights).matmul(input) + carried;  // [B,H,T,P]
    const Tensor left = (whole - decay).masked_fill(~to_state, kNever).exp().unsqueeze(3);
    state = state * whole.masked_fill(~kept, kNever).exp().unsqueeze(3) + (input * left).transpose(2, 3).matmul(b);
    outputs.push_back(y.transpose(1, 2) + part(xs) * D.to(type).unsqueeze(-1));
  }
  const Tensor y = outputs.empty() ? xs : at::cat(outputs, 1);
  return {y, state};
}

}  // namespace vlmamba::nn
