// The causal convolutions and the norm, with their adjoints.

#include "tests/ops/oracle_grid/oracle.h"

namespace vlmamba::oracle {
namespace {

// What each tap of position t reads: a position of the row, an entry of the initial state, or nothing.
struct Source {
  enum Kind { kNothing, kInput, kInitial } kind = kNothing;
  int64_t index = 0;
};

// The positions of a row that are not padding, run by run. Only the first run follows the initial state.
std::vector<std::vector<int64_t>> runs_of(const Array<int>& seq_idx, int64_t b, int64_t length) {
  std::vector<std::vector<int64_t>> runs;
  for (int64_t t = 0; t < length; ++t) {
    if (!seq_idx.given()) {
      if (runs.empty()) runs.emplace_back();
    } else {
      if (seq_idx(b, t) < 0) continue;
      if (t == 0 || seq_idx(b, t - 1) != seq_idx(b, t)) runs.emplace_back();
    }
    runs.back().push_back(t);
  }
  return runs;
}

// The input `back` positions before place i of a run (0: itself).
Source source(const std::vector<int64_t>& run, bool first, int64_t i, int64_t back, int64_t width) {
  if (i - back >= 0) return {Source::kInput, run[i - back]};
  const int64_t entry = width - 1 + i - back;
  return first && entry >= 0 ? Source{Source::kInitial, entry} : Source{};
}

template <typename M>
struct Row {
  const ConvInputs<M>& in;
  int64_t b, d, k;  // k: the direction's own weights

  Bounded<M> read(Source from) const {
    if (from.kind == Source::kInput) return in.x(b, from.index, d);
    return from.kind == Source::kInitial && in.initial_state.given() ? in.initial_state(b, from.index, d)
                                                                     : Bounded<M>();
  }
  int64_t width() const { return in.weight.shape().back(); }
  Bounded<M> tap(int64_t w) const { return in.weight.shape().size() == 3 ? in.weight(k, d, w) : in.weight(d, w); }
  Bounded<M> before_activation(const std::vector<int64_t>& run, bool first, int64_t i) const {
    Sum<M> sum;
    if (in.bias.given()) sum.add(in.bias.shape().size() == 2 ? in.bias(k, d) : in.bias(d));
    for (int64_t w = 0; w < width(); ++w) sum.add(tap(w) * read(source(run, first, i, width() - 1 - w, width())));
    return sum;
  }
};

template <typename M>
Bounded<M> activated(Bounded<M> x, bool silu) {
  return silu ? x * sigmoid(x) : x;
}

template <typename M>
struct ConvSums {
  Array<Sum<M>> x, weight, bias, initial_state;

  explicit ConvSums(const ConvInputs<M>& in) : x(in.x.shape()), weight(in.weight.shape()) {
    if (in.bias.given()) bias = Array<Sum<M>>(in.bias.shape());
    if (in.initial_state.given()) initial_state = Array<Sum<M>>(in.initial_state.shape());
  }
  void add(int64_t b, int64_t d, Source to, Bounded<M> gradient) {
    if (to.kind == Source::kInput) x(b, to.index, d).add(gradient);
    if (to.kind == Source::kInitial && initial_state.given()) initial_state(b, to.index, d).add(gradient);
  }
};

template <typename M>
void position_backward(const Row<M>& row, const std::vector<int64_t>& run, bool first, int64_t i, Bounded<M> dy,
                       ConvSums<M>& sums) {
  if (row.in.silu) {
    const auto x = row.before_activation(run, first, i), s = sigmoid(x);
    dy = dy * (s * (Bounded<M>(1) + x * (Bounded<M>(1) - s)));
  }
  if (row.in.bias.given()) (sums.bias.shape().size() == 2 ? sums.bias(row.k, row.d) : sums.bias(row.d)).add(dy);
  for (int64_t w = 0; w < row.width(); ++w) {
    const auto from = source(run, first, i, row.width() - 1 - w, row.width());
    (sums.weight.shape().size() == 3 ? sums.weight(row.k, row.d, w) : sums.weight(row.d, w)).add(dy * row.read(from));
    sums.add(row.b, row.d, from, dy * row.tap(w));
  }
}

template <typename M>
Numbers<M> total(const Array<Sum<M>>& sums) {
  Numbers<M> result;
  if (sums.given()) result = Numbers<M>(sums.shape());
  for (size_t i = 0; i < sums.values().size(); ++i) result.values()[i] = sums.values()[i];
  return result;
}

template <typename M>
ConvInputs<M> totals(const ConvSums<M>& sums) {
  ConvInputs<M> gradients;
  gradients.x = total(sums.x);
  gradients.weight = total(sums.weight);
  gradients.bias = total(sums.bias);
  gradients.initial_state = total(sums.initial_state);
  return gradients;
}

// A direction's pixels as one run.
std::vector<int64_t> path(const Map& map, int64_t k) {
  std::vector<int64_t> run;
  for (int64_t t = 0; t < map.height * map.width; ++t)
    run.push_back(pixel(map.directions[k], t, map.height, map.width));
  return run;
}

}  // namespace

template <typename M>
ConvOutputs<M> causal_conv1d(const ConvInputs<M>& in) {
  const int64_t rows = in.x.size(0), L = in.x.size(1), D = in.x.size(2), W = in.weight.size(1);
  ConvOutputs<M> out{Numbers<M>({rows, L, D}), Numbers<M>({rows, W - 1, D})};
  for (int64_t b = 0; b < rows; ++b) {
    auto runs = runs_of(in.seq_idx, b, L);
    for (int64_t d = 0; d < D; ++d) {
      const Row<M> row{in, b, d, 0};
      for (size_t r = 0; r < runs.size(); ++r)
        for (size_t i = 0; i < runs[r].size(); ++i)
          out.y(b, runs[r][i], d) = activated(row.before_activation(runs[r], r == 0, i), in.silu);
      const std::vector<int64_t> none;
      const auto& last = runs.empty() ? none : runs.back();
      for (int64_t w = 0; w < W - 1; ++w)
        out.final_state(b, w, d) =
            row.read(source(last, runs.size() <= 1, static_cast<int64_t>(last.size()) - 1, W - 2 - w, W));
    }
  }
  return out;
}

template <typename M>
ConvInputs<M> causal_conv1d_backward(const ConvInputs<M>& in, const Numbers<M>& dy, const Numbers<M>& dfinal) {
  const int64_t rows = in.x.size(0), L = in.x.size(1), D = in.x.size(2), W = in.weight.size(1);
  ConvSums<M> sums(in);
  for (int64_t b = 0; b < rows; ++b) {
    const auto runs = runs_of(in.seq_idx, b, L);
    for (int64_t d = 0; d < D; ++d) {
      const Row<M> row{in, b, d, 0};
      for (size_t r = 0; dy.given() && r < runs.size(); ++r)
        for (size_t i = 0; i < runs[r].size(); ++i)
          position_backward(row, runs[r], r == 0, static_cast<int64_t>(i), dy(b, runs[r][i], d), sums);
      const std::vector<int64_t> none;
      const auto& last = runs.empty() ? none : runs.back();
      for (int64_t w = 0; dfinal.given() && w < W - 1; ++w)
        sums.add(b, d, source(last, runs.size() <= 1, static_cast<int64_t>(last.size()) - 1, W - 2 - w, W),
                 dfinal(b, w, d));
    }
  }
  return totals(sums);
}

template <typename M>
Numbers<M> causal_conv1d_2d(const ConvInputs<M>& in, const Map& map) {
  const int64_t rows = in.x.size(0), L = in.x.size(1), D = in.x.size(2);
  const auto K = static_cast<int64_t>(map.directions.size());
  Numbers<M> y({rows, L, K, D});
  for (int64_t k = 0; k < K; ++k) {
    const auto run = path(map, k);
    for (int64_t b = 0; b < rows; ++b)
      for (int64_t d = 0; d < D; ++d)
        for (int64_t i = 0; i < L; ++i)
          y(b, run[i], k, d) = activated(Row<M>{in, b, d, k}.before_activation(run, true, i), in.silu);
  }
  return y;
}

template <typename M>
ConvInputs<M> causal_conv1d_2d_backward(const ConvInputs<M>& in, const Map& map, const Numbers<M>& dy) {
  ConvSums<M> sums(in);
  for (int64_t k = 0; k < static_cast<int64_t>(map.directions.size()); ++k) {
    const auto run = path(map, k);
    for (int64_t b = 0; b < in.x.size(0); ++b)
      for (int64_t d = 0; d < in.x.size(2); ++d)
        for (int64_t i = 0; i < in.x.size(1); ++i)
          position_backward(Row<M>{in, b, d, k}, run, true, i, dy(b, run[i], k, d), sums);
  }
  return totals(sums);
}

template <typename M>
Numbers<M> rms_norm(const Numbers<M>& x, const Numbers<M>& weight, double eps) {
  const int64_t rows = x.size(0), D = x.size(1);
  Numbers<M> y({rows, D});
  for (int64_t r = 0; r < rows; ++r) {
    Sum<M> squares;
    for (int64_t d = 0; d < D; ++d) squares.add(x(r, d) * x(r, d));
    const auto scale = rsqrt(Bounded<M>(squares) * Bounded<M>(1.0 / static_cast<double>(D)) + Bounded<M>(eps));
    for (int64_t d = 0; d < D; ++d) y(r, d) = x(r, d) * scale * weight(d);
  }
  return y;
}

template <typename M>
NormGradients<M> rms_norm_backward(const Numbers<M>& x, const Numbers<M>& weight, double eps, const Numbers<M>& dy) {
  const int64_t rows = x.size(0), D = x.size(1);
  const Bounded<M> share(1.0 / static_cast<double>(D));
  NormGradients<M> gradients{Numbers<M>({rows, D}), {}};
  Array<Sum<M>> dweight({D});
  for (int64_t r = 0; r < rows; ++r) {
    Sum<M> squares, projection;
    for (int64_t d = 0; d < D; ++d) squares.add(x(r, d) * x(r, d));
    const auto scale = rsqrt(Bounded<M>(squares) * share + Bounded<M>(eps));
    for (int64_t d = 0; d < D; ++d) projection.add(dy(r, d) * weight(d) * (x(r, d) * scale));
    const auto along = Bounded<M>(projection) * share;
    for (int64_t d = 0; d < D; ++d) {
      gradients.x(r, d) = scale * (dy(r, d) * weight(d) - x(r, d) * scale * along);
      dweight(d).add(dy(r, d) * (x(r, d) * scale));
    }
  }
  gradients.weight = total(dweight);
  return gradients;
}

#define VLMAMBA_INSTANTIATE(M)                                                                               \
  template ConvOutputs<M> causal_conv1d(const ConvInputs<M>&);                                               \
  template ConvInputs<M> causal_conv1d_backward(const ConvInputs<M>&, const Numbers<M>&, const Numbers<M>&); \
  template Numbers<M> causal_conv1d_2d(const ConvInputs<M>&, const Map&);                                    \
  template ConvInputs<M> causal_conv1d_2d_backward(const ConvInputs<M>&, const Map&, const Numbers<M>&);     \
  template Numbers<M> rms_norm(const Numbers<M>&, const Numbers<M>&, double);                                \
  template NormGradients<M> rms_norm_backward(const Numbers<M>&, const Numbers<M>&, double, const Numbers<M>&);
VLMAMBA_INSTANTIATE(float)
VLMAMBA_INSTANTIATE(double)

}  // namespace vlmamba::oracle
