#include "vlmamba/dist/comm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

namespace vlmamba {
namespace {

using at::Tensor;

class Alone final : public Comm {
 public:
  Alone() : Comm(0, 1, 0) {}
  std::unique_ptr<Collective> start_sum(const Tensor&) override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> start_sum_scattered(const Tensor&) override { return std::make_unique<Done>(); }
  std::unique_ptr<Collective> start_gather(const Tensor&) override { return std::make_unique<Done>(); }
  void broadcast(const Tensor&, int64_t) override {}
  void fail(const std::string&) noexcept override {}
  void leave() noexcept override {}

 private:
  struct Done final : Collective {
    void wait() override {}
  };
};

}  // namespace

std::vector<std::vector<double>> Comm::gather(const std::vector<double>& own) {
  if (is_alone()) return {own};
  const auto count = static_cast<int64_t>(own.size());
  const Tensor all = at::zeros({size() * count}, at::kDouble);
  auto* values = all.mutable_data_ptr<double>();
  std::copy(own.begin(), own.end(), values + rank() * count);
  start_gather(all)->wait();
  std::vector<std::vector<double>> by_rank;
  for (int64_t r = 0; r < size(); ++r) by_rank.emplace_back(values + r * count, values + (r + 1) * count);
  return by_rank;
}

std::vector<double> Comm::sum(const std::vector<double>& own) {
  std::vector<double> sums(own.size());
  for (const auto& values : gather(own))
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += values[i];
  return sums;
}

std::vector<double> Comm::max(const std::vector<double>& own) {
  std::vector<double> most = own;
  for (const auto& values : gather(own))
    for (size_t i = 0; i < most.size(); ++i) most[i] = std::max(most[i], values[i]);
  return most;
}

std::vector<std::string> Comm::gather(const std::string& own) {
  if (is_alone()) return {own};
  const auto lengths = gather(std::vector<double>{static_cast<double>(own.size())});
  const auto longest = static_cast<int64_t>((*std::max_element(lengths.begin(), lengths.end()))[0]);
  const Tensor all = at::zeros({size() * longest}, at::kByte);
  auto* bytes = all.mutable_data_ptr<uint8_t>();
  std::memcpy(bytes + rank() * longest, own.data(), own.size());
  if (longest > 0) start_gather(all)->wait();
  std::vector<std::string> texts;
  for (int64_t r = 0; r < size(); ++r)
    texts.emplace_back(reinterpret_cast<const char*>(bytes + r * longest),
                       static_cast<size_t>(lengths[static_cast<size_t>(r)][0]));
  return texts;
}

std::string Comm::broadcast(const std::string& text, int64_t from) {
  if (is_alone()) return text;
  const Tensor length = at::full({1}, static_cast<int64_t>(text.size()), at::kLong);
  broadcast(length, from);
  const auto count = length.item<int64_t>();
  if (count == 0) return "";
  const Tensor bytes = at::zeros({count}, at::kByte);
  if (rank() == from) std::memcpy(bytes.mutable_data_ptr(), text.data(), text.size());
  broadcast(bytes, from);
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(count)};
}

void Comm::barrier() { gather(std::vector<double>{0}); }

std::unique_ptr<Comm> alone() { return std::make_unique<Alone>(); }

}  // namespace vlmamba
