#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace vlmamba::nn {

/// While one lives, this thread computes matrix products and convolutions on `device` in `type`, whatever the
/// parameters are; kFloat: in the type of their inputs. Norms, scans and losses keep to their own rules.
///
/// A parameter is cast where it is used and not kept: each is used once in a forward pass, and its copies would lie in
/// memory until the last block.
class Autocast {
 public:
  Autocast(at::DeviceType device, at::ScalarType type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

  /// The type that this thread computes in on `device`.
  static at::ScalarType current(at::DeviceType device);

 private:
  at::DeviceType device_;
  at::ScalarType type_before_;
  bool enabled_before_, cache_before_;
};

}  // namespace vlmamba::nn
