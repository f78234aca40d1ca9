#include "bench/measure.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>

namespace vlmamba::bench {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double timed_on_cpu(const std::function<void()>& pass) {
  const auto start = std::chrono::steady_clock::now();
  pass();
  return seconds_since(start) * 1e3;
}

double timed_by_events(const std::function<void()>& pass, at::Device device) {
  const auto stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
  c10::Event start(device.type(), c10::EventFlag::BACKEND_DEFAULT),
      stop(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  start.record(stream);
  pass();
  stop.record(stream);
  stop.synchronize();
  return start.elapsedTime(stop);
}

double timed(const std::function<void()>& pass, at::Device device) {
  return device.is_cpu() ? timed_on_cpu(pass) : timed_by_events(pass, device);
}

Times summary(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return {samples[samples.size() / 2], samples.front(), samples.back(), static_cast<int64_t>(samples.size())};
}

// A line "Name: 123 kB" of a file of the system.
double system_bytes(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1)) * 1024;
  return -1;
}

double peak_of_process(const std::function<void()>& work) {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts again from here
  const double before = system_bytes("/proc/self/status", "VmRSS");
  work();
  const double peak = system_bytes("/proc/self/status", "VmHWM");
  return before < 0 || peak < before ? -1 : peak - before;
}

double peak_of_allocator(const std::function<void()>& work, at::Device device) {
  auto* allocator = c10::getDeviceAllocator(device.type());
  const auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto before = allocator->getDeviceStats(device.index()).allocated_bytes[kAll].current;
  allocator->resetPeakStats(device.index());
  work();
  return static_cast<double>(allocator->getDeviceStats(device.index()).allocated_bytes[kAll].peak - before);
}

}  // namespace

std::vector<Times> measure(const std::vector<std::function<void()>>& passes, at::Device device, double seconds) {
  constexpr int64_t kFewest = 5, kMost = 2000;
  std::vector<std::vector<double>> samples(passes.size());
  double a_round = 0;
  for (const auto& pass : passes) {
    timed(pass, device);
    const auto start = std::chrono::steady_clock::now();
    samples[static_cast<size_t>(&pass - passes.data())].push_back(timed(pass, device));
    a_round += seconds_since(start);
  }
  const double budget = seconds * static_cast<double>(passes.size());
  const auto rounds = static_cast<int64_t>(budget / std::max(a_round, 1e-9));
  const int64_t least = a_round > budget ? 2 : kFewest - 1;  // one has been taken already
  for (int64_t i = 0; i < std::clamp(rounds, least, kMost); ++i)
    for (size_t p = 0; p < passes.size(); ++p) samples[p].push_back(timed(passes[p], device));
  std::vector<Times> times;
  for (const auto& own : samples) times.push_back(summary(own));
  return times;
}

double peak_bytes(const std::function<void()>& work, at::Device device) {
  return device.is_cpu() ? peak_of_process(work) : peak_of_allocator(work, device);
}

double available_bytes(at::Device device) {
  if (device.is_cpu()) return system_bytes("/proc/meminfo", "MemAvailable");
  return static_cast<double>(c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).first);
}

double copy_bandwidth(at::Device device) {
  const at::Tensor from = at::ones({64 << 20}, at::TensorOptions(at::kFloat).device(device)), to = at::empty_like(from);
  const auto times = measure({[&] { to.copy_(from); }}, device, 0.3);
  return 2.0 * static_cast<double>(from.numel()) * 4 / (times[0].least * 1e-3);
}

}  // namespace vlmamba::bench
