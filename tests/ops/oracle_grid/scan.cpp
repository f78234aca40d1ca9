// The selective scans and their adjoints.

#include <utility>

#include "tests/ops/oracle_grid/oracle.h"

namespace vlmamba::oracle {
namespace {

// A step of a sequence: where it is, and whether the state starts anew before it.
struct Step {
  int64_t t;
  bool restarts;
};

// The steps of row b that are not padding. Runs are contiguous positions of one id; the first run goes on from the
// initial state, every later one starts anew.
std::vector<Step> steps_of(const Array<int>& seq_idx, int64_t b, int64_t length) {
  std::vector<Step> steps;
  for (int64_t t = 0; t < length; ++t) {
    const int id = seq_idx.given() ? seq_idx(b, t) : 0;
    if (id < 0) continue;
    const bool new_run = steps.empty() || !seq_idx.given() || t == 0 || seq_idx(b, t - 1) != id;
    steps.push_back({t, new_run && seq_idx.given() && !steps.empty()});
  }
  return steps;
}

template <typename M>
Bounded<M> silu_slope(Bounded<M> z) {
  const auto s = sigmoid(z);
  return s * (Bounded<M>(1) + z * (Bounded<M>(1) - s));
}

// One channel of one row: the numbers of one sequence.
template <typename M>
struct Channel {
  using Number = Bounded<M>;
  struct Moment {
    Number u, pre, delta, y;                   // y before the gate
    std::vector<Number> decay, before, after;  // exp(delta A), the state before and after, [N] each
  };
  std::vector<Moment> moments;
  std::vector<Number> last;  // the state after all steps
};

template <typename M>
Channel<M> run_channel(const ScanInputs<M>& in, const std::vector<Step>& steps, int64_t b, int64_t d) {
  using Number = Bounded<M>;
  const int64_t N = in.A.size(1), g = d / (in.u.size(2) / in.B.size(2));
  Channel<M> channel;
  channel.last.resize(static_cast<size_t>(N));
  for (int64_t n = 0; n < N; ++n)
    if (in.initial_state.given()) channel.last[n] = in.initial_state(b, d, n);
  for (const auto [t, restarts] : steps) {
    typename Channel<M>::Moment m;
    if (restarts) channel.last.assign(static_cast<size_t>(N), Number());
    m.u = in.u(b, t, d);
    m.pre = in.delta(b, t, d);
    if (in.delta_bias.given()) m.pre = m.pre + in.delta_bias(d);
    m.delta = in.delta_softplus ? softplus(m.pre) : m.pre;
    m.before = channel.last;
    Sum<M> y;
    for (int64_t n = 0; n < N; ++n) {
      m.decay.push_back(exp(m.delta * in.A(d, n)));
      m.after.push_back(m.decay[n] * m.before[n] + m.delta * in.B(b, t, g, n) * m.u);
      y.add(in.C(b, t, g, n) * m.after[n]);
    }
    if (in.D.given()) y.add(in.D(d) * m.u);
    m.y = y;
    channel.last = m.after;
    channel.moments.push_back(std::move(m));
  }
  return channel;
}

template <typename M>
Numbers<M> total(const Array<Sum<M>>& sums) {
  Numbers<M> result;
  if (!sums.given()) return result;
  result = Numbers<M>(sums.shape());
  for (size_t i = 0; i < sums.values().size(); ++i) result.values()[i] = sums.values()[i];
  return result;
}

template <typename T, typename M>
Array<T> like(const Numbers<M>& numbers) {
  return numbers.given() ? Array<T>(numbers.shape()) : Array<T>();
}

// The gradients whose terms come from many channels or rows.
template <typename M>
struct SharedGradients {
  Array<Sum<M>> A, B, C, D, delta_bias;
};

template <typename M>
void channel_backward(const ScanInputs<M>& in, const std::vector<Step>& steps, int64_t b, int64_t d,
                      const Numbers<M>& dy_all, const Numbers<M>& dfinal, ScanInputs<M>& gradients,
                      SharedGradients<M>& shared) {
  using Number = Bounded<M>;
  const auto channel = run_channel(in, steps, b, d);
  const int64_t N = in.A.size(1), g = d / (in.u.size(2) / in.B.size(2));
  std::vector<Number> dh(static_cast<size_t>(N));
  for (int64_t n = 0; n < N; ++n)
    if (dfinal.given()) dh[n] = dfinal(b, d, n);
  for (size_t i = steps.size(); i-- > 0;) {
    const auto [t, restarts] = steps[i];
    const auto& m = channel.moments[i];
    Number dy = dy_all.given() ? dy_all(b, t, d) : Number();
    if (in.z.given()) {
      const Number z = in.z(b, t, d);
      gradients.z(b, t, d) = dy * m.y * silu_slope(z);
      dy = dy * z * sigmoid(z);
    }
    Sum<M> du, ddelta;
    if (in.D.given()) {
      du.add(in.D(d) * dy);
      shared.D(d).add(dy * m.u);
    }
    for (int64_t n = 0; n < N; ++n) {
      const Number B = in.B(b, t, g, n), A = in.A(d, n), kept = m.decay[n] * m.before[n];
      dh[n] = dh[n] + in.C(b, t, g, n) * dy;
      shared.C(b, t, g, n).add(dy * m.after[n]);
      shared.B(b, t, g, n).add(dh[n] * m.delta * m.u);
      shared.A(d, n).add(dh[n] * m.delta * kept);
      du.add(dh[n] * m.delta * B);
      ddelta.add(dh[n] * B * m.u);
      ddelta.add(dh[n] * A * kept);
      dh[n] = restarts ? Number() : m.decay[n] * dh[n];
    }
    gradients.u(b, t, d) = du;
    Number dpre = ddelta;
    if (in.delta_softplus && m.pre.value <= 20) dpre = dpre * sigmoid(m.pre);
    gradients.delta(b, t, d) = dpre;
    if (in.delta_bias.given()) shared.delta_bias(d).add(dpre);
  }
  for (int64_t n = 0; n < N; ++n)
    if (in.initial_state.given()) gradients.initial_state(b, d, n) = dh[n];
}

// Direction k of a map as a plain sequence.
template <typename M>
ScanInputs<M> direction_of(const ScanInputs<M>& in, const Map& map, int64_t k) {
  const int64_t rows = in.delta.size(0), L = in.delta.size(1), D = in.delta.size(3), G = in.B.size(3), N = in.A.size(2);
  ScanInputs<M> one;
  one.delta_softplus = in.delta_softplus;
  one.u = one.delta = Numbers<M>({rows, L, D});
  one.B = one.C = Numbers<M>({rows, L, G, N});
  one.A = Numbers<M>({D, N});
  if (in.D.given()) one.D = Numbers<M>({D});
  if (in.delta_bias.given()) one.delta_bias = Numbers<M>({D});
  const bool own_u = in.u.shape().size() == 4;
  for (int64_t d = 0; d < D; ++d) {
    for (int64_t n = 0; n < N; ++n) one.A(d, n) = in.A(k, d, n);
    if (in.D.given()) one.D(d) = in.D(k, d);
    if (in.delta_bias.given()) one.delta_bias(d) = in.delta_bias(k, d);
  }
  for (int64_t b = 0; b < rows; ++b)
    for (int64_t t = 0; t < L; ++t) {
      const int64_t p = pixel(map.directions[k], t, map.height, map.width);
      for (int64_t d = 0; d < D; ++d) {
        one.u(b, t, d) = own_u ? in.u(b, p, k, d) : in.u(b, p, d);
        one.delta(b, t, d) = in.delta(b, p, k, d);
      }
      for (int64_t g = 0; g < G; ++g)
        for (int64_t n = 0; n < N; ++n) {
          one.B(b, t, g, n) = in.B(b, p, k, g, n);
          one.C(b, t, g, n) = in.C(b, p, k, g, n);
        }
    }
  return one;
}

}  // namespace

int64_t pixel(int direction, int64_t t, int64_t height, int64_t width) {
  if (direction >= 2) return pixel(direction - 2, height * width - 1 - t, height, width);
  return direction == 0 ? t : t % height * width + t / height;
}

std::vector<int> directions(std::string_view scan) {
  if (scan == "forward") return {0};
  if (scan == "bidirectional") return {0, 2};
  return {0, 1, 2, 3};
}

template <typename M>
ScanOutputs<M> selective_scan(const ScanInputs<M>& in) {
  const int64_t rows = in.u.size(0), L = in.u.size(1), D = in.u.size(2), N = in.A.size(1);
  ScanOutputs<M> out{Numbers<M>({rows, L, D}), Numbers<M>({rows, D, N})};
  for (int64_t b = 0; b < rows; ++b) {
    const auto steps = steps_of(in.seq_idx, b, L);
    for (int64_t d = 0; d < D; ++d) {
      const auto channel = run_channel(in, steps, b, d);
      for (int64_t n = 0; n < N; ++n) out.final_state(b, d, n) = channel.last[n];
      for (size_t i = 0; i < steps.size(); ++i) {
        const int64_t t = steps[i].t;
        auto y = channel.moments[i].y;
        if (in.z.given()) y = y * (in.z(b, t, d) * sigmoid(in.z(b, t, d)));
        out.y(b, t, d) = y;
      }
    }
  }
  return out;
}

template <typename M>
ScanInputs<M> selective_scan_backward(const ScanInputs<M>& in, const Numbers<M>& dy, const Numbers<M>& dfinal) {
  using Number = Bounded<M>;
  ScanInputs<M> gradients;
  gradients.u = like<Number>(in.u);
  gradients.delta = like<Number>(in.delta);
  gradients.z = like<Number>(in.z);
  gradients.initial_state = like<Number>(in.initial_state);
  SharedGradients<M> shared{like<Sum<M>>(in.A), like<Sum<M>>(in.B), like<Sum<M>>(in.C), like<Sum<M>>(in.D),
                            like<Sum<M>>(in.delta_bias)};
  for (int64_t b = 0; b < in.u.size(0); ++b) {
    const auto steps = steps_of(in.seq_idx, b, in.u.size(1));
    for (int64_t d = 0; d < in.u.size(2); ++d) channel_backward(in, steps, b, d, dy, dfinal, gradients, shared);
  }
  gradients.A = total(shared.A);
  gradients.B = total(shared.B);
  gradients.C = total(shared.C);
  gradients.D = total(shared.D);
  gradients.delta_bias = total(shared.delta_bias);
  return gradients;
}

template <typename M>
Numbers<M> selective_scan_2d(const ScanInputs<M>& in, const Map& map, bool merge) {
  const int64_t rows = in.delta.size(0), L = in.delta.size(1), D = in.delta.size(3);
  const auto K = static_cast<int64_t>(map.directions.size());
  Numbers<M> all({rows, L, K, D});
  Array<Sum<M>> merged({rows, L, D});
  for (int64_t k = 0; k < K; ++k) {
    const auto y = selective_scan(direction_of(in, map, k)).y;
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t t = 0; t < L; ++t)
        for (int64_t d = 0; d < D; ++d) {
          const int64_t p = pixel(map.directions[k], t, map.height, map.width);
          all(b, p, k, d) = y(b, t, d);
          merged(b, p, d).add(y(b, t, d));
        }
  }
  return merge ? total(merged) : all;
}

template <typename M>
ScanInputs<M> selective_scan_2d_backward(const ScanInputs<M>& in, const Map& map, bool merge, const Numbers<M>& dy) {
  using Number = Bounded<M>;
  const int64_t rows = in.delta.size(0), L = in.delta.size(1), D = in.delta.size(3), G = in.B.size(3), N = in.A.size(2);
  ScanInputs<M> gradients;
  gradients.delta = like<Number>(in.delta);
  gradients.A = like<Number>(in.A);
  gradients.B = like<Number>(in.B);
  gradients.C = like<Number>(in.C);
  gradients.D = like<Number>(in.D);
  gradients.delta_bias = like<Number>(in.delta_bias);
  auto du = like<Sum<M>>(in.u);
  const bool own_u = in.u.shape().size() == 4;
  for (int64_t k = 0; k < static_cast<int64_t>(map.directions.size()); ++k) {
    Numbers<M> own_dy({rows, L, D});
    const auto at = [&](int64_t t) { return pixel(map.directions[k], t, map.height, map.width); };
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t t = 0; t < L; ++t)
        for (int64_t d = 0; d < D; ++d) own_dy(b, t, d) = merge ? dy(b, at(t), d) : dy(b, at(t), k, d);
    const auto own = selective_scan_backward(direction_of(in, map, k), own_dy, Numbers<M>());
    for (int64_t d = 0; d < D; ++d) {
      for (int64_t n = 0; n < N; ++n) gradients.A(k, d, n) = own.A(d, n);
      if (in.D.given()) gradients.D(k, d) = own.D(d);
      if (in.delta_bias.given()) gradients.delta_bias(k, d) = own.delta_bias(d);
    }
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t t = 0; t < L; ++t) {
        for (int64_t d = 0; d < D; ++d) {
          (own_u ? du(b, at(t), k, d) : du(b, at(t), d)).add(own.u(b, t, d));
          gradients.delta(b, at(t), k, d) = own.delta(b, t, d);
        }
        for (int64_t g = 0; g < G; ++g)
          for (int64_t n = 0; n < N; ++n) {
            gradients.B(b, at(t), k, g, n) = own.B(b, t, g, n);
            gradients.C(b, at(t), k, g, n) = own.C(b, t, g, n);
          }
      }
  }
  gradients.u = total(du);
  return gradients;
}

template <typename M>
Numbers<M> cross_scan(const Numbers<M>& x, const Map& map) {
  const int64_t rows = x.size(0), L = x.size(1), D = x.size(2), K = static_cast<int64_t>(map.directions.size());
  Numbers<M> result({rows, K, L, D});
  for (int64_t b = 0; b < rows; ++b)
    for (int64_t k = 0; k < K; ++k)
      for (int64_t t = 0; t < L; ++t)
        for (int64_t d = 0; d < D; ++d)
          result(b, k, t, d) = x(b, pixel(map.directions[k], t, map.height, map.width), d);
  return result;
}

template <typename M>
Numbers<M> cross_merge(const Numbers<M>& x, const Map& map) {
  const int64_t rows = x.size(0), K = x.size(1), L = x.size(2), D = x.size(3);
  Array<Sum<M>> sums({rows, L, D});
  for (int64_t b = 0; b < rows; ++b)
    for (int64_t k = 0; k < K; ++k)
      for (int64_t t = 0; t < L; ++t)
        for (int64_t d = 0; d < D; ++d)
          sums(b, pixel(map.directions[k], t, map.height, map.width), d).add(x(b, k, t, d));
  return total(sums);
}

#define VLMAMBA_INSTANTIATE(M)                                                                                  \
  template ScanOutputs<M> selective_scan(const ScanInputs<M>&);                                                 \
  template ScanInputs<M> selective_scan_backward(const ScanInputs<M>&, const Numbers<M>&, const Numbers<M>&);   \
  template Numbers<M> selective_scan_2d(const ScanInputs<M>&, const Map&, bool);                                \
  template ScanInputs<M> selective_scan_2d_backward(const ScanInputs<M>&, const Map&, bool, const Numbers<M>&); \
  template Numbers<M> cross_scan(const Numbers<M>&, const Map&);                                                \
  template Numbers<M> cross_merge(const Numbers<M>&, const Map&);
VLMAMBA_INSTANTIATE(float)
VLMAMBA_INSTANTIATE(double)

}  // namespace vlmamba::oracle
