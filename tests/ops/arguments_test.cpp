#include <c10/core/InferenceMode.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

#include "tests/ops/every_op.h"

namespace vlmamba::ops {
namespace {

using at::Tensor;
using test::calls_of_backward_ops;
using test::calls_of_every_op;
using test::error_of;
using test::OpCall;
using test::Tensors;

// Ways in which any argument may be wrong.
const std::vector<std::pair<const char*, Tensor (*)(const Tensor&)>> kDefects = {
    {"rank", [](const Tensor& x) { return x.unsqueeze(0); }},
    {"size",
     [](const Tensor& x) {
       std::vector<int64_t> sizes = x.sizes().vec();
       for (int64_t& size : sizes) ++size;
       return at::zeros(sizes, x.options());
     }},
    {"type", [](const Tensor& x) { return x.to(at::kLong); }},
    {"float64", [](const Tensor& x) { return x.to(at::kDouble); }},
    {"device",
     [](const Tensor& x) { return at::zeros(x.sizes(), x.options().device(x.is_meta() ? at::kCPU : at::kMeta)); }},
};

// One tensor alone cannot be on the wrong device, be of another floating type, or of another rank than those beside it.
bool is_legal(const OpCall& call, size_t argument, const std::string& defect) {
  if (call.tensors.size() == 1 && (defect == "device" || defect == "float64")) return true;
  return call.op == "rms_norm" && argument == 0 && defect == "rank";  // [..., D]
}

void expect_refused(const OpCall& call) {
  for (size_t i = 0; i < call.tensors.size(); ++i)
    for (const auto& [defect, spoil] : kDefects) {
      if (is_legal(call, i, defect)) continue;
      Tensors tensors = call.tensors;
      tensors[i] = spoil(tensors[i]);
      const std::string message = error_of([&] { call.call(tensors); });
      const std::string where = call.op + " " + call.names[i] + " " + defect + ": " + message;
      EXPECT_EQ(message.find("[" + call.op + "] "), 0u) << where;
      EXPECT_NE(message.find(": expected "), std::string::npos) << where;
      EXPECT_NE(message.find(", got "), std::string::npos) << where;
    }
}

std::vector<OpCall> calls_of_all() {
  auto all = calls_of_every_op();
  for (const OpCall& backward : calls_of_backward_ops()) all.push_back(backward);
  return all;
}

TEST(Arguments, EveryDefectOfEveryArgumentIsRefusedWithTheOpsName) {
  for (const OpCall& call : calls_of_all()) {
    EXPECT_EQ(error_of([&] { call.call(call.tensors); }), "") << call.op;
    expect_refused(call);
    const c10::InferenceMode inference;  // no Autograd kernel stands guard
    expect_refused(call);
  }
}

TEST(Arguments, TheMetaDeviceRefusesTheSameAndGivesTheSameShapes) {
  for (OpCall call : calls_of_all()) {
    const Tensors real = call.call(call.tensors);
    for (Tensor& tensor : call.tensors) tensor = tensor.to(at::kMeta);
    const Tensors meta = call.call(call.tensors);
    for (size_t i = 0; i < real.size(); ++i) {
      EXPECT_EQ(real[i].sizes(), meta[i].sizes()) << call.op;
      EXPECT_EQ(real[i].strides(), meta[i].strides()) << call.op;
      EXPECT_EQ(real[i].scalar_type(), meta[i].scalar_type()) << call.op;
    }
    expect_refused(call);
  }
}

struct Wrong {
  const char* op;
  const char* argument;
  Tensor replacement;
  const char* message;
};

TEST(Arguments, MessagesNameTheArgumentWhatWasExpectedAndWhatCame) {
  const auto f = [](at::IntArrayRef sizes) { return at::zeros(sizes); };
  const auto of = [](at::IntArrayRef sizes, at::ScalarType type) { return at::zeros(sizes, type); };
  const std::vector<Wrong> table = {
      {"selective_scan", "delta", f({2, 6, 5}), "delta: expected shape [2, 6, 4] (-1: any), got [2, 6, 5]"},
      {"selective_scan", "A", f({4}), "A: expected shape [4, -1] (-1: any), got [4]"},
      {"selective_scan", "A", of({4, 3}, at::kBFloat16), "A: expected Float, got BFloat16"},
      {"selective_scan", "B", f({2, 6, 2, 4}), "B: expected shape [2, 6, -1, 3] (-1: any), got [2, 6, 2, 4]"},
      {"selective_scan", "B", f({2, 6, 3, 3}), "C: expected shape [2, 6, 3, 3] (-1: any), got [2, 6, 2, 3]"},
      {"selective_scan", "z", of({2, 6, 4}, at::kHalf), "z: expected Float, got Half"},
      {"selective_scan", "initial_state", of({2, 4, 3}, at::kHalf), "initial_state: expected Float, got Half"},
      {"selective_scan", "seq_idx", of({2, 6}, at::kLong), "seq_idx: expected Int, got Long"},
      {"selective_scan", "u", of({2, 6, 4}, at::kInt), "u: expected Float, BFloat16, Half or Double, got Int"},
      {"selective_scan_2d", "u", f({2, 6}), "u: expected [B,L,D] or [B,L,K,D], got [2, 6]"},
      {"selective_scan_2d", "delta", f({2, 6, 2, 4}), "delta: expected shape [2, 6, 4, 4] (-1: any), got [2, 6, 2, 4]"},
      {"cross_scan", "x", f({2, 7, 4}), "height, width: expected a product of 7, got 2 x 3"},
      {"cross_merge", "x", f({2, 2, 6, 4}), "x: expected shape [-1, 4, -1, -1] (-1: any), got [2, 2, 6, 4]"},
      {"causal_conv1d", "weight", f({4, 0}), "weight: expected a width of 1 or more, got 0"},
      {"causal_conv1d", "initial_state", f({2, 4, 4}),
       "initial_state: expected shape [2, 3, 4] (-1: any), got [2, 4, 4]"},
      {"causal_conv1d_2d", "bias", f({2, 4}), "bias: expected shape [4, 4] (-1: any), got [2, 4]"},
      {"rms_norm", "x", f({}), "x: expected [..., D], got a scalar"},
      {"rms_norm", "weight", f({5}), "weight: expected shape [4] (-1: any), got [5]"},
      {"add_rms_norm", "residual", of({2, 6, 4}, at::kHalf), "residual: expected Float, got Half"},
      {"selective_state_update", "state", of({2, 4, 3}, at::kHalf), "state: expected Float, got Half"},
      {"selective_state_update", "D", f({3}), "D: expected shape [4] (-1: any), got [3]"},
      {"causal_conv1d_update", "state", f({2, 4, 4}), "state: expected shape [2, 3, 4] (-1: any), got [2, 4, 4]"},
  };
  for (const Wrong& wrong : table)
    for (OpCall call : calls_of_every_op()) {
      if (call.op != wrong.op) continue;
      for (size_t i = 0; i < call.names.size(); ++i)
        if (call.names[i] == wrong.argument) call.tensors[i] = wrong.replacement;
      EXPECT_EQ(error_of([&] { call.call(call.tensors); }), std::string("[") + wrong.op + "] " + wrong.message);
    }
}

// A map of one channel, whose sums over the directions take a register a pixel: more than y and all else that is asked
// for before them. The process that calls may have only little more memory than it has.
void scan_in_little_memory() {
  constexpr int64_t kPixels = 1 << 20, kMore = 20 << 20;
  const Tensor u = at::ones({1, kPixels, 1}), delta = at::ones({1, kPixels, 2, 1}), A = at::zeros({2, 1, 1}),
               B = at::ones({1, kPixels, 2, 1, 1});
  rlim_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + kMore;
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_AS, &limit);
  const std::string error =
      error_of([&] { selective_scan_2d(u, delta, A, B, B, {}, {}, false, "bidirectional", 1, kPixels); });
  std::fprintf(stderr, "%s\n", error.c_str());
  std::exit(0);
}

TEST(ArgumentsDeathTest, NoMemoryForAWorkAreaIsAnErrorLikeAnyOther) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer reserves its memory in advance";
#endif
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // in a new process: this one has threads
  EXPECT_EXIT(scan_in_little_memory(), testing::ExitedWithCode(0),
              "\\[CPU kernels\\] memory: expected [0-9]+ bytes for a work area, got none");
}

TEST(Arguments, WordsAndMapsAreCheckedToo) {
  const Tensor x = at::zeros({2, 6, 4}), weight = at::zeros({4, 4});
  EXPECT_EQ(error_of([&] { cross_scan(x, "snake", 2, 3); }),
            "[cross_scan] scan: expected forward, bidirectional or cross, got snake");
  EXPECT_EQ(error_of([&] { cross_scan(x, "cross", -2, -3); }),
            "[cross_scan] height, width: expected a product of 6, got -2 x -3");
  constexpr int64_t kLarge = int64_t{1} << 32;  // whose square is 0 in 64 bits
  EXPECT_EQ(error_of([&] {
              cross_scan(at::zeros({2, 0, 4}), "cross", kLarge, kLarge);
            }),
            "[cross_scan] height, width: expected a product of 0, got 4294967296 x 4294967296");
  EXPECT_EQ(error_of([&] { cross_scan(at::zeros({2, 0, 4}), "cross", 0, 5); }), "");
  EXPECT_EQ(error_of([&] { causal_conv1d(x, weight, {}, {}, {}, "gelu"); }),
            "[causal_conv1d] activation: expected none or silu, got gelu");
  EXPECT_EQ(error_of([&] {
              selective_scan(x, x, at::zeros({4, 3}), at::zeros({2, 6, 3, 3}), at::zeros({2, 6, 3, 3}));
            }),
            "[selective_scan] B: expected a number of groups that divides 4 channels, got 3");
}

}  // namespace
}  // namespace vlmamba::ops
