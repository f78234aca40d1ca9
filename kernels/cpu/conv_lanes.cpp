// The lane kernels of the causal convolutions; see lanes.h for how they are compiled.

#include "kernels/cpu/conv_lanes.h"

#include "kernels/cpu/lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

// One row and direction of a block, with its weights and the window of inputs that slides over it.
template <typename T>
struct Lane {
  const ConvProblem<T>& p;
  const Block block;
  const int64_t row, k;
  Lanes<T>*weight, *window;  // [W], [W]: oldest first; the last of the window is the current input
  Lanes<T> bias;

  // `memory` holds 2 W lanes.
  Lane(const ConvProblem<T>& problem, int64_t index, int64_t of_row, int64_t direction, Lanes<T>* memory)
      : p(problem),
        block(block_at(problem.channels, 1, index)),
        row(of_row),
        k(direction),
        weight(memory),
        window(memory + problem.taps) {
    const int64_t first = k * p.channels + block.channel;
    for (int64_t w = 0; w < p.taps; ++w) {
      weight[w] = Lanes<T>{};
      for (int64_t i = 0; i < block.width; ++i) weight[w][i] = p.weight[(first + i) * p.taps + w];
      window[w] = p.initial_state && w + 1 < p.taps ? load(p.initial_state + state_offset(w), block.width) : Lanes<T>{};
    }
    bias = p.bias ? load(p.bias + first, block.width) : Lanes<T>{};
  }

  int64_t at(int64_t t) const { return p.order[k * p.length + t]; }
  StepKind kind(int64_t t) const { return p.step == nullptr ? StepKind::kGoOn : p.step[row * p.length + at(t)]; }
  int64_t x_offset(int64_t t) const { return (row * p.length + at(t)) * p.channels + block.channel; }
  int64_t y_offset(int64_t t) const {
    return ((row * p.length + at(t)) * p.directions + k) * p.channels + block.channel;
  }
  int64_t state_offset(int64_t w) const { return (row * (p.taps - 1) + w) * p.channels + block.channel; }

  // Takes the input of step t into the window and gives the output before its activation.
  Lanes<T> read(int64_t t) {
    const int64_t last = p.taps - 1;
    if (kind(t) == StepKind::kReset)
      for (int64_t w = 0; w < last; ++w) window[w] = Lanes<T>{};
    window[last] = load(p.x + x_offset(t), block.width);
    Lanes<T> sum = bias;
    for (int64_t w = 0; w <= last; ++w) sum += weight[w] * window[w];
    return sum;
  }
  void slide() {
    for (int64_t w = 0; w + 1 < p.taps; ++w) window[w] = window[w + 1];
  }
};

template <typename T>
void forward(const ConvProblem<T>& p, const ConvOutput<T>& out, int64_t row, int64_t first_block, int64_t last_block) {
  const Buffer<Lanes<T>> memory(2 * p.taps);
  for (int64_t index = first_block; index < last_block; ++index)
    for (int64_t k = 0; k < p.directions; ++k) {
      Lane<T> lane(p, index, row, k, memory + 0);
      for (int64_t t = 0; t < p.length; ++t) {
        Lanes<T> y{};
        if (lane.kind(t) != StepKind::kPadding) {
          y = lane.read(t);
          if (p.silu) y *= sigmoid(y);
          lane.slide();
        }
        store(out.y + lane.y_offset(t), y, lane.block.width);
      }
      if (out.final_state)
        for (int64_t w = 0; w + 1 < p.taps; ++w)
          store(out.final_state + lane.state_offset(w), lane.window[w], lane.block.width);
    }
}

// The gradient of one step's output before its activation, times each input, goes to the weights; times each weight, to
// the inputs: those of the window wait in `pending` until their own step is reached.
template <typename T>
void backward_direction(const Lane<T>& lane, const ConvGradients<T>& g, const Lanes<T>* windows, const Lanes<T>* sums,
                        Lanes<T>* pending, Lanes<T>* dweight) {
  const ConvProblem<T>& p = lane.p;
  const int64_t last = p.taps - 1, width = lane.block.width;
  Lanes<T> dbias{};
  for (int64_t w = 0; w < last; ++w)
    pending[w] = g.dfinal_state ? load(g.dfinal_state + lane.state_offset(w), width) : Lanes<T>{};
  for (int64_t w = 0; w <= last; ++w) dweight[w] = Lanes<T>{};
  for (int64_t t = p.length - 1; t >= 0; --t) {
    T* to = g.dx + lane.x_offset(t);
    const StepKind kind = lane.kind(t);
    Lanes<T> dx{};
    if (kind != StepKind::kPadding) {
      Lanes<T> d = load(g.dy + lane.y_offset(t), width);
      if (p.silu) {
        const Lanes<T> gate = sigmoid(sums[t]);
        d *= gate * (1 + sums[t] * (1 - gate));
      }
      dbias += d;
      const Lanes<T>* window = windows + t * p.taps;
      for (int64_t w = 0; w <= last; ++w) dweight[w] += d * window[w];
      dx = d * lane.weight[last];
      if (last > 0) dx += pending[last - 1];
      for (int64_t w = last - 1; w >= 0; --w)
        pending[w] = kind == StepKind::kReset ? Lanes<T>{}
                     : w > 0                  ? pending[w - 1] + d * lane.weight[w]
                                              : d * lane.weight[0];
    }
    store(to, lane.k > 0 ? load(to, width) + dx : dx, width);
  }
  const int64_t first = (lane.row * p.directions + lane.k) * p.channels + lane.block.channel;
  for (int64_t w = 0; w <= last; ++w)
    for (int64_t i = 0; i < width; ++i) g.dweight[(first + i) * p.taps + w] = dweight[w][i];
  if (g.dbias) store(g.dbias + first, dbias, width);
  if (g.dinitial_state)
    for (int64_t w = 0; w < last; ++w) store(g.dinitial_state + lane.state_offset(w), pending[w], width);
}

template <typename T>
void backward(const ConvProblem<T>& p, const ConvGradients<T>& g, int64_t row, int64_t first_block,
              int64_t last_block) {
  const Buffer<Lanes<T>> memory(4 * p.taps), windows(p.length * p.taps), sums(p.length);
  for (int64_t index = first_block; index < last_block; ++index)
    for (int64_t k = 0; k < p.directions; ++k) {
      Lane<T> lane(p, index, row, k, memory + 0);
      for (int64_t t = 0; t < p.length; ++t) {
        if (lane.kind(t) == StepKind::kPadding) continue;
        *(sums + t) = lane.read(t);
        for (int64_t w = 0; w < p.taps; ++w) *(windows + (t * p.taps + w)) = lane.window[w];
        lane.slide();
      }
      backward_direction(lane, g, windows + 0, sums + 0, memory + 2 * p.taps, memory + 3 * p.taps);
    }
}

}  // namespace

template <typename T>
ConvKernels<T> conv_kernels() {
  return {forward<T>, backward<T>};
}
template ConvKernels<float> conv_kernels();
template ConvKernels<double> conv_kernels();

}  // namespace vlmamba::cpu::VLMAMBA_PATH
