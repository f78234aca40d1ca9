#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace vlmamba {

/// A collective that is under way.
class Collective {
 public:
  virtual ~Collective() = default;
  /// Until then its tensor belongs to it. Throws Error (peer lost) with the name of the rank that is missing.
  virtual void wait() = 0;
};

/// This rank among the ranks of a run. Every rank calls the same collectives in the same order, with tensors of the
/// same size and type. Sums are taken in an order that follows from the ranks alone, and all ranks get the same bits.
/// A rank that is alone pays for nothing.
class Comm {
 public:
  virtual ~Comm() = default;
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  /// Among the ranks of this machine: which of its GPUs to use.
  int64_t local_rank() const { return local_rank_; }
  bool is_alone() const { return size_ == 1; }
  /// Rank 0, which writes what is written once.
  bool is_first() const { return rank_ == 0; }

  /// Sums over the ranks, in place.
  virtual std::unique_ptr<Collective> start_sum(const at::Tensor& tensor) = 0;
  /// Sums a vector of size() equal chunks; of the result this rank gets chunk rank(), the others are undefined.
  virtual std::unique_ptr<Collective> start_sum_scattered(const at::Tensor& flat) = 0;
  /// Fills a vector of size() equal chunks: chunk r is what rank r has there.
  virtual std::unique_ptr<Collective> start_gather(const at::Tensor& flat) = 0;
  virtual void broadcast(const at::Tensor& tensor, int64_t from) = 0;

  void sum(const at::Tensor& tensor) { start_sum(tensor)->wait(); }
  /// The numbers of every rank, by rank.
  std::vector<std::vector<double>> gather(const std::vector<double>& own);
  /// The sums over the ranks, added in fp64 from rank 0 on.
  std::vector<double> sum(const std::vector<double>& own);
  std::vector<double> max(const std::vector<double>& own);
  /// The text of every rank, by rank.
  std::vector<std::string> gather(const std::string& own);
  /// The text of one rank.
  std::string broadcast(const std::string& text, int64_t from);
  /// Nobody leaves before all have come.
  void barrier();

  /// Tells the others that this rank gives up, and why: they end with Error (peer lost) that says it. Returns at once;
  /// never throws.
  virtual void fail(const std::string& why) noexcept = 0;
  /// From here on this rank ends by itself, and all the others with it: nobody misses it.
  virtual void leave() noexcept = 0;

 protected:
  Comm(int64_t rank, int64_t size, int64_t local_rank) : rank_(rank), size_(size), local_rank_(local_rank) {}

 private:
  int64_t rank_, size_, local_rank_;
};

/// The only rank.
std::unique_ptr<Comm> alone();

}  // namespace vlmamba
