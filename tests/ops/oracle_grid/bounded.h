#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

/// Numbers that know how far arithmetic in a narrower type may be from them.
///
/// `value` is computed in fp64. `error` bounds, to first order, what a computation of the same formula in type M (float
/// or double) may be off: half a unit in the last place for each operation, a few units for exponentials, and what the
/// operands bring along. So a kernel is held to the accuracy its own inputs allow, element by element, with no
/// tolerance tuned to a case: where terms cancel the bound is wide, where they do not it is a few units.
namespace vlmamba::oracle {

template <typename M>
struct Bounded {
  double value = 0, error = 0;

  static constexpr double kUnit = std::numeric_limits<M>::epsilon() / 2;
  static constexpr double kLeast = std::numeric_limits<M>::min();  // subnormal numbers may be flushed to zero

  Bounded() = default;
  Bounded(double v, double e = 0) : value(v), error(e) {}  // NOLINT: exact numbers convert

  static Bounded rounded(double v, double e) { return {v, e + kUnit * std::fabs(v) + kLeast}; }
};

template <typename M>
Bounded<M> operator+(Bounded<M> a, Bounded<M> b) {
  return Bounded<M>::rounded(a.value + b.value, a.error + b.error);
}
template <typename M>
Bounded<M> operator-(Bounded<M> a, Bounded<M> b) {
  return Bounded<M>::rounded(a.value - b.value, a.error + b.error);
}
template <typename M>
Bounded<M> operator*(Bounded<M> a, Bounded<M> b) {
  return Bounded<M>::rounded(a.value * b.value, std::fabs(a.value) * b.error + std::fabs(b.value) * a.error);
}

/// Relative error of exp(x): that of the function, and of scaling x to a power of two.
template <typename M>
double exp_error(double x) {
  return (4 + 2 * std::fabs(x)) * Bounded<M>::kUnit;
}

template <typename M>
Bounded<M> exp(Bounded<M> x) {
  const double v = std::exp(x.value);
  return {v, v * (x.error + exp_error<M>(x.value)) + 4 * Bounded<M>::kLeast};
}

template <typename M>
Bounded<M> sigmoid(Bounded<M> x) {
  const double v = x.value >= 0 ? 1 / (1 + std::exp(-x.value)) : std::exp(x.value) / (1 + std::exp(x.value));
  const double slope = x.value >= 0 ? v * std::exp(-x.value) / (1 + std::exp(-x.value)) : v * (1 - v);
  return {v, slope * (x.error + exp_error<M>(x.value)) + 4 * Bounded<M>::kUnit * v + 4 * Bounded<M>::kLeast};
}

/// log(1 + exp(x)), x itself above 20.
template <typename M>
Bounded<M> softplus(Bounded<M> x) {
  if (x.value > 20) return x;
  const double v = std::log1p(std::exp(x.value));
  return {v, sigmoid(x).value * x.error + v * (8 * Bounded<M>::kUnit + exp_error<M>(x.value)) + 4 * Bounded<M>::kLeast};
}

/// 1 / sqrt(x).
template <typename M>
Bounded<M> rsqrt(Bounded<M> x) {
  const double v = 1 / std::sqrt(x.value);
  return {v, v * (0.5 * x.error / x.value + 4 * Bounded<M>::kUnit)};
}

/// A sum in whatever order: rounding errors of its partial sums add up like a random walk.
template <typename M>
class Sum {
 public:
  void add(Bounded<M> x) {
    value_ += x.value;
    error_ += x.error;
    magnitude_ += std::fabs(x.value);
    ++count_;
  }
  operator Bounded<M>() const {  // NOLINT: a sum is a number
    return {value_, error_ + (2 + std::sqrt(static_cast<double>(count_))) * Bounded<M>::kUnit * magnitude_};
  }

 private:
  double value_ = 0, error_ = 0, magnitude_ = 0;
  int64_t count_ = 0;
};

/// A dense array, last index fastest. No shape: not given.
template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(std::vector<int64_t> shape) : shape_(std::move(shape)) {
    int64_t count = 1;
    for (const int64_t size : shape_) count *= size;
    values_.resize(static_cast<size_t>(count));
  }

  bool given() const { return !shape_.empty(); }
  const std::vector<int64_t>& shape() const { return shape_; }
  int64_t size(size_t dim) const { return shape_[dim]; }
  std::vector<T>& values() { return values_; }
  const std::vector<T>& values() const { return values_; }

  template <typename... I>
  T& operator()(I... index) {
    return values_[offset({static_cast<int64_t>(index)...})];
  }
  template <typename... I>
  const T& operator()(I... index) const {
    return values_[offset({static_cast<int64_t>(index)...})];
  }

 private:
  size_t offset(std::initializer_list<int64_t> index) const {
    int64_t at = 0;
    size_t dim = 0;
    for (const int64_t i : index) at = at * shape_[dim++] + i;
    return static_cast<size_t>(at);
  }

  std::vector<int64_t> shape_;
  std::vector<T> values_;
};

template <typename M>
using Numbers = Array<Bounded<M>>;

}  // namespace vlmamba::oracle
