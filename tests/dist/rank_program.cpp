// One rank of a run of processes. Says what it does on stderr, and ends with the exit code of what happened to it.
#include <ATen/ATen.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "vlmamba/core/error.h"
#include "vlmamba/dist/launch.h"

namespace vlmamba {
namespace {

void expect(bool fine, const char* what) {
  if (!fine) throw Error(ExitCode::kInternal, "rank_program", what);
}

void all_collectives(Comm& comm) {
  const auto rank = comm.rank(), size = comm.size();
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const at::Tensor sum = at::full({3, 5}, rank + 1, type);
    comm.sum(sum);
    expect(sum.eq(size * (size + 1) / 2).all().item<bool>(), "sum");
    const at::Tensor scattered = at::arange(size * 4, type) * (rank + 1);
    comm.start_sum_scattered(scattered)->wait();
    const auto own = scattered.slice(0, rank * 4, rank * 4 + 4);
    expect(own.equal((at::arange(size * 4, type) * (size * (size + 1) / 2)).slice(0, rank * 4, rank * 4 + 4)),
           "sum_scattered");
    const at::Tensor gathered = at::zeros({size * 2}, type);
    gathered.slice(0, rank * 2, rank * 2 + 2).fill_(rank + 1);
    comm.start_gather(gathered)->wait();
    expect(gathered.equal(at::arange(size, type).add(1).repeat_interleave(2)), "gather");
  }
  const at::Tensor copy = at::full({2}, rank);
  comm.broadcast(copy, size - 1);
  expect(copy.eq(size - 1).all().item<bool>(), "broadcast");
  const std::string own(static_cast<size_t>(rank) * 1000, static_cast<char>('a' + rank));
  const auto texts = comm.gather(own);
  for (int64_t r = 0; r < size; ++r)
    expect(texts[static_cast<size_t>(r)] == std::string(static_cast<size_t>(r) * 1000, static_cast<char>('a' + r)),
           "gather of text");
  expect(comm.broadcast(own, 1) == texts[1], "broadcast of text");
  // Several at a time, awaited in another order.
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<Collective>> running;
  for (int i = 0; i < 20; ++i) {
    tensors.push_back(at::full({1000 + i}, rank + i, at::kFloat));
    running.push_back(comm.start_sum(tensors.back()));
  }
  for (size_t i = running.size(); i-- > 0;) running[i]->wait();
  for (int i = 0; i < 20; ++i)
    expect(tensors[static_cast<size_t>(i)].eq(size * i + size * (size - 1) / 2).all().item<bool>(), "overlapping sums");
}

// Sums for ever, until something happens. `stuck`: only this rank sleeps instead.
void sum_for_ever(Comm& comm, bool sleeps) {
  const at::Tensor tensor = at::ones({1000});
  comm.sum(tensor);
  std::fputs("going\n", stderr);
  while (sleeps) std::this_thread::sleep_for(std::chrono::seconds(1));
  for (;;) comm.sum(tensor.fill_(1));
}

int run(const std::string& scenario, DistConfig config) {
  const auto launch = read_launch(std::getenv);
  expect(launch.has_value(), "no launch");
  const bool chosen = launch->rank == launch->size - 1;  // whom the scenario is about
  if (scenario == "absent" && chosen) return 0;
  const auto comm = join(*launch, config);
  try {
    if (scenario == "collectives") all_collectives(*comm);
    if (scenario == "sum") sum_for_ever(*comm, false);
    if (scenario == "stuck") sum_for_ever(*comm, chosen);
    if (scenario == "busy") sum_for_ever(*comm, !chosen);  // the others are not in a collective when it is lost
    if (scenario == "failing" && chosen) throw Error(ExitCode::kData, "record r7", "expected a picture, got none");
    if (scenario == "failing") sum_for_ever(*comm, false);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    comm->fail(error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}

}  // namespace
}  // namespace vlmamba

int main(int, char** argv) try {
  vlmamba::DistConfig config;
  config.start_seconds = std::atof(argv[2]);
  config.silent_seconds = std::atof(argv[3]);
  config.stuck_seconds = std::atof(argv[4]);
  return vlmamba::run(argv[1], config);
} catch (const vlmamba::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return static_cast<int>(error.code());
}
