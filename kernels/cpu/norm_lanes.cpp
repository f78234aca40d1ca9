// The lane kernels of the norms; see lanes.h for how they are compiled.

#include "kernels/cpu/norm_lanes.h"

#include "kernels/cpu/storage_lanes.h"

namespace vlmamba::cpu::VLMAMBA_PATH {
namespace {

template <typename T>
T inverse_root(T mean_square, double eps) {
  return 1 / static_cast<T>(sqrt(mean_square + static_cast<T>(eps)));
}

inline int64_t width_at(int64_t channel, int64_t channels) { return least(channels - channel, kLanes); }

}  // namespace

template <typename X, typename R>
void norm_forward(const NormForward<X, R>& p, int64_t first_row, int64_t last_row) {
  using T = Math<X>;
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t start = row * p.channels;
    Lanes<T> squares{};
    for (int64_t c = 0; c < p.channels; c += kLanes) {
      const int64_t width = width_at(c, p.channels);
      Lanes<T> x = load(p.x + start + c, width);
      if (p.residual) {
        x += load(p.residual + start + c, width);
        store(p.sum + start + c, x, width);
      }
      squares += x * x;
    }
    const T scale = inverse_root(sum_of(squares) / static_cast<T>(p.channels), p.eps);
    for (int64_t c = 0; c < p.channels; c += kLanes) {
      const int64_t width = width_at(c, p.channels);
      const Lanes<T> x = p.residual ? load(p.sum + start + c, width) : load(p.x + start + c, width);
      store(p.y + start + c, x * scale * load(p.weight + c, width), width);
    }
  }
}

// With r = 1 / sqrt(mean(x^2) + eps): dx = r w dy - x r^3 mean(w dy x), dweight = sum over rows of dy x r.
template <typename X, typename Y>
void norm_backward(const NormBackward<X, Y>& p, int64_t part, int64_t first_row, int64_t last_row) {
  using T = Math<X>;
  T* dweight = p.dweight ? p.dweight + part * p.channels : nullptr;
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t start = row * p.channels;
    Lanes<T> squares{}, products{};
    for (int64_t c = 0; c < p.channels; c += kLanes) {
      const int64_t width = width_at(c, p.channels);
      const Lanes<T> x = load(p.x + start + c, width);
      squares += x * x;
      products += x * load(p.weight + c, width) * load(p.dy + start + c, width);
    }
    const T count = static_cast<T>(p.channels), scale = inverse_root(sum_of(squares) / count, p.eps),
            pull = sum_of(products) / count * scale * scale * scale;
    for (int64_t c = 0; c < p.channels; c += kLanes) {
      const int64_t width = width_at(c, p.channels);
      const Lanes<T> x = load(p.x + start + c, width), dy = load(p.dy + start + c, width);
      Lanes<T> dx = dy * load(p.weight + c, width) * scale - x * pull;
      if (p.dsum) dx += load(p.dsum + start + c, width);
      store(p.dx + start + c, dx, width);
      if (dweight) store(dweight + c, load(dweight + c, width) + dy * x * scale, width);
    }
  }
}

#define VLMAMBA_NORM(X, Y)                                                  \
  template void norm_forward(const NormForward<X, Y>& p, int64_t, int64_t); \
  template void norm_backward(const NormBackward<Y, X>& p, int64_t, int64_t, int64_t);
VLMAMBA_NORM(float, float)
VLMAMBA_NORM(double, double)
VLMAMBA_NORM(BFloat16, BFloat16)
VLMAMBA_NORM(BFloat16, float)
VLMAMBA_NORM(Half, Half)
VLMAMBA_NORM(Half, float)
#undef VLMAMBA_NORM

}  // namespace vlmamba::cpu::VLMAMBA_PATH
