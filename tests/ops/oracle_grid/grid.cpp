// A seeded random grid of calls of every op, values and gradients, against the oracle.
//
//   oracle_grid [--seed N] [--cases N] [--only OP] [--budget STEPS] [--device cpu|cuda] [--verbose]
//
// Prints every mismatch with the op, the seed that repeats it alone, and all choices. Ends with the largest share of an
// error bound that was used, for each op and result: what is near 1 is as inaccurate as its formula allows.

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/ops/oracle_grid/case.h"

namespace vlmamba::oracle {
namespace {

struct Op {
  const char* name;
  void (*run)(Case&);
  const char* kernel;  // what must be there
};

constexpr Op kOps[] = {{"selective_scan", selective_scan_case, "vlmamba::selective_scan_backward"},
                       {"selective_scan_2d", selective_scan_2d_case, "vlmamba::selective_scan_2d_backward"},
                       {"causal_conv1d", causal_conv1d_case, "vlmamba::causal_conv1d_backward"},
                       {"causal_conv1d_2d", causal_conv1d_2d_case, "vlmamba::causal_conv1d_2d_backward"},
                       {"norm", norm_case, "vlmamba::add_rms_norm_backward"},
                       {"cross", cross_case, "vlmamba::cross_merge"},
                       {"update", update_case, "vlmamba::selective_state_update"}};

bool has_kernel(const Setting& setting, const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").hasKernelForDispatchKey(key_of(setting));
}

struct Options {
  uint64_t seed = 1;
  int64_t cases = 300;
  std::string only;
  bool verbose = false;
  Setting setting{at::kCPU, is_emulated(), 40000, 2};
};

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "oracle_grid [--seed N] [--cases N] [--only OP] [--budget STEPS] [--device cpu|cuda] [--verbose]\n");
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (i + 1 == argc) usage();
    const char* value = argv[++i];
    if (name == "--seed")
      options.seed = std::strtoull(value, nullptr, 10);
    else if (name == "--cases")
      options.cases = std::atoll(value);
    else if (name == "--budget")
      options.setting.budget = std::atoll(value);
    else if (name == "--only")
      options.only = value;
    else if (name == "--device")
      options.setting.device = at::Device(value);
    else
      usage();
  }
  return options;
}

int run(const Options& options) {
  int64_t mismatches = 0, cases = 0, missing = 0;
  std::map<std::string, std::pair<double, uint64_t>> used;
  for (const auto& op : kOps) {
    if (!options.only.empty() && options.only != op.name) continue;
    if (!has_kernel(options.setting, op.kernel)) {
      std::printf("%s: no kernel for this device\n", op.name);
      ++missing;
      continue;
    }
    for (int64_t i = 0; i < options.cases; ++i, ++cases) {
      const uint64_t seed = options.seed + static_cast<uint64_t>(i);
      Case c(options.setting, seed);
      prepare_device(c);
      try {
        op.run(c);
      } catch (const std::exception& error) {
        const std::string message = error.what();
        c.fail("threw " + message.substr(0, message.find('\n')));
      }
      if (options.verbose || !c.failures().empty())
        std::printf("%s --only %s --seed %llu --cases 1:%s\n", c.failures().empty() ? "ok" : "MISMATCH", op.name,
                    static_cast<unsigned long long>(seed), c.choices().c_str());
      for (const auto& failure : c.failures()) std::printf("    %s\n", failure.c_str());
      mismatches += !c.failures().empty();
      for (const auto& [name, share] : c.used()) {
        auto& most = used[std::string(op.name) + " " + name];
        if (share >= most.first) most = {share, seed};
      }
    }
  }
  std::printf("largest share of an error bound that was used (and the seed of its case):\n");
  for (const auto& [name, most] : used)
    std::printf("  %-32s %.2f  %llu\n", name.c_str(), most.first, static_cast<unsigned long long>(most.second));
  std::printf("oracle_grid: %lld cases, %lld mismatches\n", static_cast<long long>(cases),
              static_cast<long long>(mismatches));
  if (cases == 0) std::fprintf(stderr, "oracle_grid: nothing was run (--only %s)\n", options.only.c_str());
  return mismatches == 0 && missing == 0 && cases > 0 ? 0 : 1;
}

}  // namespace
}  // namespace vlmamba::oracle

int main(int argc, char** argv) { return vlmamba::oracle::run(vlmamba::oracle::parse(argc, argv)); }
