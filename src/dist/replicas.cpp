#include "vlmamba/dist/replicas.h"

#include <ATen/ATen.h>

#include <cstring>
#include <map>

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

// Four lanes of multiply and mix: a flipped bit anywhere changes the result, at the speed of memory.
uint64_t hash(const void* data, size_t size) {
  constexpr uint64_t kOdd = 0x9E3779B97F4A7C15u;
  uint64_t lanes[4] = {1, 2, 3, size};
  const auto* bytes = static_cast<const unsigned char*>(data);
  const auto mix = [](uint64_t state, uint64_t word) {
    state = (state ^ word) * kOdd;
    return state ^ (state >> 29);
  };
  size_t position = 0;
  for (; position + 32 <= size; position += 32)
    for (size_t lane = 0; lane < 4; ++lane) {
      uint64_t word;
      std::memcpy(&word, bytes + position + 8 * lane, 8);
      lanes[lane] = mix(lanes[lane], word);
    }
  for (; position < size; ++position) lanes[0] = mix(lanes[0], bytes[position]);
  return mix(mix(mix(lanes[0], lanes[1]), lanes[2]), lanes[3]);
}

void append_hash(std::string& hashes, const void* data, size_t size) {
  const uint64_t value = hash(data, size);
  hashes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// What a rank holds: what most do, or where as many hold each, what rank 0 does.
uint64_t usual(const std::vector<uint64_t>& by_rank) {
  std::map<uint64_t, int64_t> count;
  for (const uint64_t value : by_rank) ++count[value];
  uint64_t best = by_rank[0];
  for (const uint64_t value : by_rank)
    if (count[value] > count[best]) best = value;
  return best;
}

void compare(Comm& comm, const std::vector<std::string>& names, const std::string& own, const std::string& where) {
  const auto hashes = comm.gather(own);
  for (size_t i = 0; i < names.size(); ++i) {
    std::vector<uint64_t> by_rank(hashes.size());
    for (size_t r = 0; r < hashes.size(); ++r) std::memcpy(&by_rank[r], hashes[r].data() + 8 * i, 8);
    const uint64_t expected = usual(by_rank);
    std::string different;
    for (size_t r = 0; r < by_rank.size(); ++r)
      if (by_rank[r] != expected) different += (different.empty() ? "" : ", ") + std::to_string(r);
    if (!different.empty())
      throw Error(ExitCode::kPeerLost, where,
                  names[i] + ": expected the same on all ranks, got something else on rank " + different +
                      "; continue the run from a checkpoint before this step with --resume");
  }
}

}  // namespace

void compare_replicas(Comm& comm, const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                      const std::string& where) {
  if (comm.is_alone()) return;
  std::vector<std::string> names;
  std::string own;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor here = tensor.detach().to(at::kCPU).contiguous();
    names.push_back(name);
    append_hash(own, here.const_data_ptr(), here.nbytes());
  }
  compare(comm, names, own, where);
}

void compare_replicas(Comm& comm, const std::string& name, const std::string& text, const std::string& where) {
  std::string own;
  append_hash(own, text.data(), text.size());
  compare(comm, {name}, own, where);
}

}  // namespace vlmamba
