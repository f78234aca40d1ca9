#include "tests/emulated_cuda/engine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/emulated_cuda/fibre.h"

namespace vlmamba::emulation {

const Position* position = nullptr;

namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kMaxThreads = 1024, kMaxShared = 227 << 10;  // the least of the architectures with that much: sm_90

enum class State { kRuns, kWaitsForBlock, kWaitsForLanes, kFinished };

struct Copy {
  void* shared;
  const void* global;
};

struct Thread {
  Fibre fibre;
  Position position;
  size_t index = 0;
  State state = State::kRuns;
  // What it waits for, and what a warp operation gives and takes.
  Location where;
  const char* operation = "";
  unsigned mask = 0;
  int source = 0;
  uint64_t value = 0, received = 0;
  std::vector<std::vector<Copy>> copies;  // groups that were not waited for; the last one is open
};

struct Engine {
  uint64_t order = 0;
  std::mt19937_64 random;
  int multiprocessors = 4;
  std::vector<std::unique_ptr<Thread>> threads;
  size_t size = 0;  // threads of a block
  Thread* current = nullptr;
  void* shared = nullptr;
  std::exception_ptr error;
};
Engine engine;

std::string describe(const Thread& thread) {
  std::ostringstream text;
  text << "thread " << thread.index;
  if (thread.state == State::kFinished) {
    text << " has finished";
  } else {
    text << " waits in " << thread.operation << " at " << thread.where.file_name() << ":" << thread.where.line();
    if (thread.state == State::kWaitsForLanes) text << " for lanes 0x" << std::hex << thread.mask;
  }
  return text.str();
}

[[noreturn]] void fail(const std::string& what) {
  const Index3 block = position->block;
  throw KernelError("[emulated kernel] block (" + std::to_string(block.x) + "," + std::to_string(block.y) + "," +
                    std::to_string(block.z) + "): " + what);
}

bool same_place(const Thread& a, const Thread& b) {
  return a.state == b.state && a.mask == b.mask && a.where.line() == b.where.line() &&
         a.where.column() == b.where.column() && std::strcmp(a.where.file_name(), b.where.file_name()) == 0;
}

template <class Visit>
void for_each_lane(const Thread& thread, const Visit& visit) {
  const size_t first = thread.index - thread.index % kWarp;
  for (unsigned lane = 0; lane < kWarp; ++lane)
    if (thread.mask >> lane & 1) visit(lane, *engine.threads[first + lane]);
}

// Lets the lanes of a warp operation go on once the last one has come.
void finish_warp_operation(const Thread& last) {
  bool complete = true;
  uint64_t flags = 0;
  for_each_lane(last, [&](unsigned lane, const Thread& other) {
    complete = complete && same_place(other, last);
    flags |= (other.value & 1) << lane;
  });
  if (!complete) return;
  const size_t first = last.index - last.index % kWarp;
  for_each_lane(last, [&](unsigned, Thread& thread) {
    thread.received = thread.source < 0 ? flags : engine.threads[first + static_cast<size_t>(thread.source)]->value;
    thread.state = State::kRuns;
  });
}

uint64_t warp_operation(unsigned mask, uint64_t value, int source, const char* operation, const Location& where) {
  Thread& self = *engine.current;
  const size_t lane = self.index % kWarp, lanes = std::min<size_t>(kWarp, engine.size - (self.index - lane));
  if (!(mask >> lane & 1)) fail("the mask of " + std::string(operation) + " lacks its own lane");
  if (lanes < kWarp && mask >> lanes != 0)
    fail("the mask of " + std::string(operation) + " names lanes past the block");
  if (source >= 0 && !(mask >> source & 1)) fail(std::string(operation) + " reads a lane outside its mask");
  self.state = State::kWaitsForLanes;
  self.where = where;
  self.operation = operation;
  self.mask = mask;
  self.value = value;
  self.source = source;
  finish_warp_operation(self);
  if (self.state != State::kRuns) Fibre::pause();
  return self.received;
}

// The numbers 0 ... count-1 in the order that the seed asks for.
std::vector<size_t> ordered(size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  if (engine.order == 1) std::reverse(order.begin(), order.end());
  if (engine.order > 1) std::shuffle(order.begin(), order.end(), engine.random);
  return order;
}

// True if nothing is left to do.
bool finish_barrier() {
  const Thread& first = *engine.threads[0];
  for (size_t i = 1; i < engine.size; ++i) {
    const Thread& other = *engine.threads[i];
    if (other.state != first.state || (first.state != State::kFinished && !same_place(other, first)))
      fail("its threads diverge: " + describe(first) + ", " + describe(other));
  }
  if (first.state == State::kFinished) return true;
  if (first.state == State::kWaitsForLanes) fail("no warp can go on: " + describe(first));
  for (size_t i = 0; i < engine.size; ++i) engine.threads[i]->state = State::kRuns;
  return false;
}

// Lets each of the threads [first, last) run to its next operation; false if none can.
bool run_threads(size_t first, size_t last) {
  bool ran = false;
  for (const size_t i : ordered(last - first)) {
    Thread& thread = *engine.threads[first + i];
    if (thread.state != State::kRuns) continue;
    engine.current = &thread;
    position = &thread.position;
    thread.fibre.resume();
    if (engine.error) std::rethrow_exception(std::exchange(engine.error, nullptr));
    ran = true;
  }
  return ran;
}

void run_block(const Position& block, size_t shared_bytes, const std::function<void()>& body) {
  // NaN in every floating-point type, or a small number: what an earlier block might have left.
  std::memset(engine.shared, engine.order % 2 == 0 ? 0xff : 1, shared_bytes);
  for (size_t i = 0; i < engine.size; ++i) {
    Thread& thread = *engine.threads[i];
    thread.position = block;
    const auto index = static_cast<unsigned>(i);
    const auto [x, y, z] = block.block_size;
    thread.position.thread = {index % x, index / x % y, index / x / y};
    thread.index = i;
    thread.state = State::kRuns;
    thread.mask = 0;
    thread.copies.assign(1, {});
    thread.fibre.start([&thread, &body] {
      try {
        body();
      } catch (...) {
        engine.error = std::current_exception();
      }
      thread.state = State::kFinished;
    });
  }
  const size_t together = engine.order == 2 ? kWarp : engine.size;
  for (bool finished = false; !finished; finished = finish_barrier())
    for (size_t first = 0; first < engine.size; first += together)
      while (run_threads(first, std::min(first + together, engine.size))) {
      }
}

bool fits(const Index3& grid, const Index3& block, size_t shared_bytes) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 &&
         threads > 0 && threads <= kMaxThreads && block.z <= 64 && shared_bytes <= kMaxShared;
}

}  // namespace

void set_thread_order(uint64_t seed) {
  engine.order = seed;
  engine.random.seed(seed);
}

void set_multiprocessors(int count) { engine.multiprocessors = count; }
int multiprocessors() { return engine.multiprocessors; }

bool run(Index3 grid, Index3 block, size_t dynamic_shared_bytes, const std::function<void()>& body) {
  if (!fits(grid, block, dynamic_shared_bytes)) return false;
  engine.size = size_t{block.x} * block.y * block.z;
  while (engine.threads.size() < engine.size) engine.threads.push_back(std::make_unique<Thread>());
  const std::unique_ptr<void, void (*)(void*)> shared(std::malloc(dynamic_shared_bytes), std::free);
  engine.shared = shared.get();
  for (const size_t index : ordered(size_t{grid.x} * grid.y * grid.z)) {
    const auto x = static_cast<unsigned>(index % grid.x), y = static_cast<unsigned>(index / grid.x % grid.y),
               z = static_cast<unsigned>(index / grid.x / grid.y);
    run_block({{}, {x, y, z}, block, grid}, dynamic_shared_bytes, body);
  }
  return true;
}

void wait_for_block(const Location& where) {
  Thread& self = *engine.current;
  self.state = State::kWaitsForBlock;
  self.where = where;
  self.operation = "__syncthreads";
  self.mask = 0;
  Fibre::pause();
}

uint64_t exchange(unsigned mask, uint64_t value, int source, const char* operation, const Location& where) {
  return warp_operation(mask, value, source, operation, where);
}

unsigned ballot(unsigned mask, bool flag, const char* operation, const Location& where) {
  return static_cast<unsigned>(warp_operation(mask, flag, -1, operation, where));
}

int shuffle_source(char kind, int operand, int width) {
  const int lane = static_cast<int>(engine.current->index % kWarp), first = lane - lane % width;
  int source = lane;
  if (kind == '=') source = first + (operand & (width - 1));
  if (kind == '^') source = lane ^ operand;
  if (kind == '-') source = lane - operand;
  if (kind == '+') source = lane + operand;
  return source < first || source >= first + width ? lane : source;
}

void* dynamic_shared_memory() { return engine.shared; }

void copy_async_16(void* shared, const void* global) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fail("an asynchronous copy's address is not a multiple of 16");
  engine.current->copies.back().push_back({shared, global});
}

void commit_copies() { engine.current->copies.emplace_back(); }

void wait_copies(size_t left) {
  auto& groups = engine.current->copies;  // the open one is not waited for
  const size_t finished = groups.size() - 1 > left ? groups.size() - 1 - left : 0;
  for (size_t i = 0; i < finished; ++i)
    for (const Copy& copy : groups[i]) std::memcpy(copy.shared, copy.global, 16);
  groups.erase(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(finished));
}

}  // namespace vlmamba::emulation
