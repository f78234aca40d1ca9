// The lane kernels of the causal convolutions; see lanes.h for how they are compiled.
//
// A stripe's blocks take turns at a few steps each, so that its memory pages and cache lines are used while at hand.
// A block holds its weights and the window of the last W-1 inputs in registers meanwhile.

#include "kernels/cpu/conv_lanes.h"

#include "kernels/cpu/storage_lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

constexpr int64_t kTurn = 32;  // steps

// kCount lanes in registers; any number, left in memory, if kCount is 0.
template <int kCount, typename T>
struct Held {
  Lanes<T> lanes[kCount];
  Lanes<T>* home;
  explicit Held(Lanes<T>* from) : home(from) {
    for (int i = 0; i < kCount; ++i) lanes[i] = from[i];
  }
  ~Held() {
    for (int i = 0; i < kCount; ++i) home[i] = lanes[i];
  }
  Lanes<T>& operator[](int64_t i) { return lanes[i]; }
};
template <typename T>
struct Held<0, T> {
  Lanes<T>* home;
  explicit Held(Lanes<T>* from) : home(from) {}
  Lanes<T>& operator[](int64_t i) { return home[i]; }
};

// What a block keeps between its turns: W lanes each, of which the window and the pending use W-1.
template <typename T>
struct Kept {
  Lanes<T>*weight, *window, *pending, *dweight;
  Lanes<T> bias, dbias;
};

// One row and direction of the batch.
template <typename S>
struct Line {
  const ConvProblem<S>& p;
  int64_t row, k;

  int64_t at(int64_t t) const { return p.order[k * p.length + t]; }
  StepKind kind(int64_t t) const { return p.step == nullptr ? StepKind::kGoOn : p.step[row * p.length + at(t)]; }
  int64_t x_offset(int64_t t) const { return (row * p.length + at(t)) * p.channels; }
  int64_t y_offset(int64_t t) const { return ((row * p.length + at(t)) * p.directions + k) * p.channels; }
  int64_t state_offset(int64_t w) const { return (row * (p.taps - 1) + w) * p.channels; }

  // The weights, the bias and the window as the row begins; no gradients.
  void begin(const Block& block, Kept<Math<S>>& kept) const {
    using T = Math<S>;
    const int64_t first = k * p.channels + block.channel;
    for (int64_t w = 0; w < p.taps; ++w) {
      kept.weight[w] = Lanes<T>{};
      for (int64_t i = 0; i < block.width; ++i) kept.weight[w][i] = p.weight[(first + i) * p.taps + w];
      kept.window[w] = p.initial_state && w + 1 < p.taps
                           ? load(p.initial_state + state_offset(w) + block.channel, block.width)
                           : Lanes<T>{};
      kept.pending[w] = kept.dweight[w] = Lanes<T>{};
    }
    kept.bias = p.bias ? load(p.bias + first, block.width) : Lanes<T>{};
    kept.dbias = Lanes<T>{};
  }
};

// The blocks of a stripe and what they keep.
template <typename S>
struct Stripe {
  using T = Math<S>;
  const int64_t taps, row, first_channel, blocks;
  const Buffer<Lanes<T>> memory;
  const Buffer<Kept<T>> kept;

  Stripe(const ConvProblem<S>& p, int64_t index)
      : taps(p.taps),
        row(index / conv_stripes(p.channels, p.directions)),
        first_channel(index % conv_stripes(p.channels, p.directions) * conv_stripe_channels(p.directions)),
        blocks((least(p.channels - first_channel, conv_stripe_channels(p.directions)) + kLanes - 1) / kLanes),
        memory(blocks * 4 * taps),
        kept(blocks) {
    for (int64_t j = 0; j < blocks; ++j) {
      Lanes<T>* own = memory + j * 4 * taps;
      of(j) = Kept<T>{own, own + taps, own + 2 * taps, own + 3 * taps, Lanes<T>{}, Lanes<T>{}};
    }
  }
  Kept<T>& of(int64_t j) const { return *(kept + j); }
  Block block(const ConvProblem<S>& p, int64_t j) const {
    const int64_t channel = first_channel + j * kLanes;
    return {channel, least(p.channels - channel, kLanes), 0};
  }
};

template <int kTaps, typename S>
void forward_turn(const Line<S>& line, const ConvOutput<S>& out, const Block& block, Kept<Math<S>>& kept, int64_t begin,
                  int64_t end) {
  using T = Math<S>;
  const ConvProblem<S>& p = line.p;
  const int64_t last = (kTaps > 0 ? kTaps : p.taps) - 1;
  Held<kTaps, T> weight(kept.weight), window(kept.window);
  const Lanes<T> bias = kept.bias;
  for (int64_t t = begin; t < end; ++t) {
    const StepKind kind = line.kind(t);
    Lanes<T> y{};
    if (kind != StepKind::kPadding) {
      if (kind == StepKind::kReset)
        for (int64_t w = 0; w < last; ++w) window[w] = Lanes<T>{};
      window[last] = load(p.x + line.x_offset(t) + block.channel, block.width);
      y = bias;
      for (int64_t w = 0; w <= last; ++w) y += weight[w] * window[w];
      for (int64_t w = 0; w < last; ++w) window[w] = window[w + 1];
      if (p.silu) y *= sigmoid(y);
    }
    store(out.y + line.y_offset(t) + block.channel, y, block.width);
  }
}

template <int kTaps, typename S>
void forward(const ConvProblem<S>& p, const ConvOutput<S>& out, int64_t first_stripe, int64_t last_stripe) {
  for (int64_t index = first_stripe; index < last_stripe; ++index) {
    const Stripe<S> stripe(p, index);
    for (int64_t k = 0; k < p.directions; ++k) {
      const Line<S> line{p, stripe.row, k};
      for (int64_t j = 0; j < stripe.blocks; ++j) line.begin(stripe.block(p, j), stripe.of(j));
      for (int64_t t = 0; t < p.length; t += kTurn)
        for (int64_t j = 0; j < stripe.blocks; ++j)
          forward_turn<kTaps>(line, out, stripe.block(p, j), stripe.of(j), t,
                              t + kTurn < p.length ? t + kTurn : p.length);
      for (int64_t j = 0; out.final_state && j < stripe.blocks; ++j)
        for (int64_t w = 0; w + 1 < p.taps; ++w) {
          const Block block = stripe.block(p, j);
          store(out.final_state + line.state_offset(w) + block.channel, stripe.of(j).window[w], block.width);
        }
    }
  }
}

// The steps of the run that the window belongs to; the first of a row goes on from the initial state.
struct Run {
  int64_t begin = 0, end = 0;
  bool first = true, begun = false;
};

// Where the gradients of a block's inputs go: to dx at once, or to a sum over the directions.
template <typename S>
struct InputGradients {
  const Line<S>& line;
  const ConvGradients<S>& g;
  const Block block;
  Lanes<Math<S>>* sum;  // [L] with a stride of sum_stride, or null
  int64_t sum_stride;

  void give(int64_t t, Lanes<Math<S>> dx) const {
    if (sum != nullptr)
      sum[line.at(t) * sum_stride] += dx;
    else
      store(g.dx + line.x_offset(t) + block.channel, dx, block.width);
  }
  // The input `back` steps before `end`: of the run, else of the initial state, else one of the zeros before a run.
  void give_back(const Run& run, int64_t end, int64_t back, Lanes<Math<S>> dx) const {
    const int64_t t = end - back, before = run.begin - t;
    if (before <= 0)
      give(t, dx);
    else if (run.first && g.dinitial_state)
      store(g.dinitial_state + line.state_offset(line.p.taps - 1 - before) + block.channel, dx, block.width);
  }
};

// An output's gradient before its activation, times each input, goes to the weights; times each weight, to the inputs:
// those in the window have it pending until they leave it.
template <int kTaps, typename S>
void backward_turn(const InputGradients<S>& to, Kept<Math<S>>& kept, Run& run, int64_t begin, int64_t end) {
  using T = Math<S>;
  const Line<S>& line = to.line;
  const ConvProblem<S>& p = line.p;
  const int64_t last = (kTaps > 0 ? kTaps : p.taps) - 1, channel = to.block.channel, width = to.block.width;
  Held<kTaps, T> weight(kept.weight), window(kept.window), pending(kept.pending), dweight(kept.dweight);
  Lanes<T> dbias = kept.dbias;
  for (int64_t t = begin; t < end; ++t) {
    const StepKind kind = line.kind(t);
    if (kind == StepKind::kPadding) {
      to.give(t, Lanes<T>{});
      continue;
    }
    if (kind == StepKind::kReset) {
      for (int64_t w = 0; w < last; ++w) to.give_back(run, run.end, last - w, pending[w]);
      for (int64_t w = 0; w < last; ++w) window[w] = pending[w] = Lanes<T>{};
    }
    if (kind == StepKind::kReset || !run.begun) run = {t, t, !run.begun, true};
    window[last] = load(p.x + line.x_offset(t) + channel, width);
    pending[last] = Lanes<T>{};
    Lanes<T> d = load(to.g.dy + line.y_offset(t) + channel, width);
    if (p.silu) {
      Lanes<T> before = kept.bias;
      for (int64_t w = 0; w <= last; ++w) before += weight[w] * window[w];
      const Lanes<T> gate = sigmoid(before);
      d *= gate * (1 + before * (1 - gate));
    }
    dbias += d;
    if (to.g.dweight)
      for (int64_t w = 0; w <= last; ++w) dweight[w] += d * window[w];
    for (int64_t w = 0; w <= last; ++w) pending[w] += d * weight[w];
    run.end = t + 1;
    to.give_back(run, t, last, pending[0]);
    for (int64_t w = 0; w < last; ++w) window[w] = window[w + 1];
    for (int64_t w = 0; w < last; ++w) pending[w] = pending[w + 1];
  }
  kept.dbias = dbias;
}

// What is left when a row ends: the final state's gradient, and what is pending; then the weights' own.
template <typename S>
void end_row(const InputGradients<S>& to, const Kept<Math<S>>& kept, const Run& run) {
  const Line<S>& line = to.line;
  const ConvProblem<S>& p = line.p;
  const Block& block = to.block;
  for (int64_t w = 0; w + 1 < p.taps; ++w) {
    if (to.g.dfinal_state)
      kept.pending[w] += load(to.g.dfinal_state + line.state_offset(w) + block.channel, block.width);
    to.give_back(run, run.end, p.taps - 1 - w, kept.pending[w]);
  }
  const int64_t first = (line.row * p.directions + line.k) * p.channels + block.channel;
  for (int64_t w = 0; to.g.dweight && w < p.taps; ++w)
    for (int64_t i = 0; i < block.width; ++i) to.g.dweight[(first + i) * p.taps + w] = kept.dweight[w][i];
  if (to.g.dbias) store(to.g.dbias + first, kept.dbias, block.width);
}

template <int kTaps, typename S>
void backward_line(const Stripe<S>& stripe, const Line<S>& line, const ConvGradients<S>& g, Lanes<Math<S>>* sum) {
  const ConvProblem<S>& p = line.p;
  const auto gradients = [&](int64_t j) {
    return InputGradients<S>{line, g, stripe.block(p, j), sum == nullptr ? nullptr : sum + j, stripe.blocks};
  };
  for (int64_t j = 0; j < stripe.blocks; ++j) line.begin(stripe.block(p, j), stripe.of(j));
  Run run;  // the same for every block
  for (int64_t t = 0; t < p.length; t += kTurn) {
    const Run before = run;
    for (int64_t j = 0; j < stripe.blocks; ++j) {
      run = before;
      backward_turn<kTaps>(gradients(j), stripe.of(j), run, t, t + kTurn < p.length ? t + kTurn : p.length);
    }
  }
  for (int64_t j = 0; j < stripe.blocks; ++j) end_row(gradients(j), stripe.of(j), run);
}

template <int kTaps, typename S>
void backward(const ConvProblem<S>& p, const ConvGradients<S>& g, int64_t first_stripe, int64_t last_stripe) {
  for (int64_t index = first_stripe; index < last_stripe; ++index) {
    const Stripe<S> stripe(p, index);
    if (p.directions == 1) {
      backward_line<kTaps>(stripe, Line<S>{p, stripe.row, 0}, g, nullptr);
      continue;
    }
    const Buffer<Lanes<Math<S>>> sum(p.length * stripe.blocks);
    for (int64_t k = 0; k < p.directions; ++k) backward_line<kTaps>(stripe, Line<S>{p, stripe.row, k}, g, sum + 0);
    for (int64_t i = 0; i < p.length; ++i)
      for (int64_t j = 0; j < stripe.blocks; ++j) {
        const Block block = stripe.block(p, j);
        store(g.dx + (stripe.row * p.length + i) * p.channels + block.channel, *(sum + (i * stripe.blocks + j)),
              block.width);
      }
  }
}

}  // namespace

template <typename S>
ConvKernels<S> conv_kernels(int64_t taps) {
  if (taps == 4) return {forward<4, S>, backward<4, S>};
  return {forward<0, S>, backward<0, S>};
}
template ConvKernels<float> conv_kernels(int64_t);
template ConvKernels<double> conv_kernels(int64_t);
template ConvKernels<BFloat16> conv_kernels(int64_t);
template ConvKernels<Half> conv_kernels(int64_t);

}  // namespace vlmamba::cpu::VLMAMBA_PATH
