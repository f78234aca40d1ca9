#pragma once

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/ops/oracle_grid/oracle.h"

namespace vlmamba::oracle {

using OptionalTensor = std::optional<at::Tensor>;
using Tensors = std::vector<at::Tensor>;

/// An op with its gradients, as a function of those inputs that have rows as their first dimension.
struct Computation {
  struct Result {
    const char* name;
    bool rows, channels;  ///< whether what it has first and last are those, each of its own inputs alone
  };
  struct Input {
    OptionalTensor tensor;
    bool channels = true;  ///< whether they are its last dimension
  };
  std::vector<Result> results;
  std::vector<Input> inputs;
  std::function<Tensors(const std::vector<OptionalTensor>&)> run;
};

/// Where and how large the calls are.
struct Setting {
  at::Device device = at::kCPU;
  bool emulated = false;   ///< the CUDA kernels on the CPU: called by key, without autograd
  int64_t budget = 40000;  ///< most state steps (or like work) of a case
  double margin = 2;       ///< times the error bound before it is a mismatch
};

/// One random call of one op: all its choices follow from one seed. Collects what it chose, what differed, and how much
/// of each error bound was used.
class Case {
 public:
  Case(const Setting& setting, uint64_t seed) : setting(setting), random_(seed) {}

  int64_t integer(int64_t least, int64_t most);
  double uniform(double least, double most);
  bool chance(double probability);
  /// One of a list, noted under `name`.
  template <typename T>
  T pick(const char* name, const std::vector<T>& list) {
    const T value = list[static_cast<size_t>(integer(0, static_cast<int64_t>(list.size()) - 1))];
    note(name, value);
    return value;
  }
  bool flag(const char* name, double probability = 0.5);
  template <typename T>
  void note(const char* name, const T& value) {
    choices_ << " " << name << "=" << value;
  }

  /// Numbers of a type: normal with this deviation and mean, or uniform; in strides of any kind.
  at::Tensor normal(at::IntArrayRef shape, at::ScalarType type, double deviation = 1, double mean = 0);
  at::Tensor even(at::IntArrayRef shape, at::ScalarType type, double least, double most);
  /// The same values in other strides: contiguous, part of a larger tensor, transposed.
  at::Tensor laid_out(const at::Tensor& values);
  /// fp32, bf16, fp16 or fp64, and for weights that type or fp32.
  at::ScalarType input_type();
  at::ScalarType weight_type(at::ScalarType input);
  /// [B,L] int32: runs of random lengths and ids, with padding before, between and behind them, or nothing.
  OptionalTensor sequences(int64_t rows, int64_t length);

  void fail(const std::string& message) { failures_.push_back(message); }
  /// `got` in shape and type, every element within its bound and the rounding of its type.
  template <typename M>
  void compare(const std::string& name, const at::Tensor& got, const Numbers<M>& expected, at::ScalarType type);
  /// The same bits, where `apart` (a mask that broadcasts) is not set.
  void expect_same(const std::string& name, const at::Tensor& a, const at::Tensor& b, const at::Tensor& apart = {});

  /// The same results again on other numbers of threads, where `first` has them; and in half of the cases each row's,
  /// and each channel's, beside a row or channel that is NaN.
  void expect_repeatable(const Computation& computation, const Tensors& first);

  std::string choices() const { return choices_.str(); }
  const std::vector<std::string>& failures() const { return failures_; }
  const std::map<std::string, double>& used() const { return used_; }

  /// An op by name, on the device under test.
  template <typename Signature, typename... Arguments>
  auto call(const char* name, Arguments&&... arguments) const {
    const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
    if (setting.emulated) return op.redispatch(c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), arguments...);
    return op.call(arguments...);
  }

  const Setting& setting;

 private:
  void expect_apart(const Computation& computation, bool channels);

  std::mt19937_64 random_;
  std::ostringstream choices_;
  std::vector<std::string> failures_;
  std::map<std::string, double> used_;
};

/// The device under test is chosen by the file that is linked: host_device.cpp here, or the emulation's.
bool is_emulated();
/// Chooses, from the case's seed, what results must not depend on or must hold for: instruction set, thread order.
void prepare_device(Case& c);
inline c10::DispatchKey key_of(const Setting& setting) {
  if (setting.emulated) return c10::DispatchKey::PrivateUse1;
  return setting.device.is_cpu() ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA;
}

/// The numbers of a tensor, exact. Not given for none.
template <typename M>
Numbers<M> numbers(const OptionalTensor& tensor);
Array<int> ids(const OptionalTensor& tensor);

/// What autograd gives for random cotangents of a random, non-empty choice of outputs, with respect to a random choice
/// of inputs.
struct Differentiated {
  std::vector<at::Tensor> cotangents;  ///< undefined: that output was not used
  std::vector<at::Tensor> gradients;   ///< undefined: not asked for
};
Differentiated differentiate(Case& c, const std::vector<at::Tensor>& outputs,
                             const std::vector<OptionalTensor*>& inputs, const std::vector<bool>& wanted);

/// The mask of a backward op; all where `wanted` is empty.
template <size_t kCount>
std::array<bool, kCount> mask_of(const std::vector<bool>& wanted) {
  std::array<bool, kCount> mask;
  for (size_t i = 0; i < kCount; ++i) mask[i] = wanted.empty() || wanted[i];
  return mask;
}

void selective_scan_case(Case& c);
void selective_scan_2d_case(Case& c);
void causal_conv1d_case(Case& c);
void causal_conv1d_2d_case(Case& c);
void norm_case(Case& c);
void cross_case(Case& c);
void update_case(Case& c);

}  // namespace vlmamba::oracle
