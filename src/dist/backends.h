#pragma once

#include <chrono>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace vlmamba {

using Backend = c10::intrusive_ptr<c10d::Backend>;

/// Gloo, for tensors on the CPU, listening at `address` of this machine.
Backend gloo(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank, int64_t size, const std::string& address,
             std::chrono::milliseconds timeout);

/// NCCL, for tensors on GPUs; null in a build without CUDA and on a machine without a GPU.
Backend nccl(const c10::intrusive_ptr<c10d::Store>& store, int64_t rank, int64_t size,
             std::chrono::milliseconds timeout);

}  // namespace vlmamba
