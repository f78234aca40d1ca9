#include "bench/bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdio>

#include "vlmamba/core/error.h"
#include "vlmamba/core/version.h"

namespace vlmamba::bench {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

double bytes_held(const Tensors& tensors) {
  double sum = 0;
  for (const Tensor& tensor : tensors)
    if (tensor.defined()) sum += static_cast<double>(tensor.numel()) * static_cast<double>(tensor.element_size());
  return sum;
}

Tensors ones_like(const Tensors& tensors) {
  Tensors result;
  for (const Tensor& tensor : tensors) result.push_back(at::ones_like(tensor));
  return result;
}

// Makes a shape smaller by halves, rows first, until `fits`; false where it cannot.
template <typename Fits>
bool shrink(Shape& shape, const Fits& fits) {
  while (!fits(shape)) {
    if (shape.B > 1) {
      shape.B /= 2;
    } else if (shape.map() && shape.height > 1) {
      shape.height /= 2;
      shape.L = shape.height * shape.width;
    } else if (!shape.map() && shape.L > 1) {
      shape.L /= 2;
    } else {
      return false;
    }
  }
  return true;
}

double work_of(const Shape& s) {
  return static_cast<double>(s.B) * static_cast<double>(s.L) * static_cast<double>(s.D) * static_cast<double>(s.K) *
         static_cast<double>(s.op.find("scan") == std::string::npos ? 1 : s.N);
}

// The two passes of a workload, ready to be repeated.
struct Passes {
  std::function<void()> forward, backward;  // backward: over one graph, kept; none where there are no gradients
};

Passes passes_of(const Workload::Run& run, const Workload& w) {
  Passes passes{[run] { run(); }, {}};
  if (!w.differentiable) return passes;
  const Tensors outputs = run(), cotangents = ones_like(outputs), inputs = w.inputs;
  passes.backward = [=] {
    torch::autograd::grad(outputs, inputs, cotangents, /*retain_graph=*/true, /*create_graph=*/false,
                          /*allow_unused=*/true);
  };
  return passes;
}

// What forward and backward hold at their peak beyond outputs, their gradients and those of the inputs.
double extra_bytes(const Workload& w, at::Device device) {
  if (!w.differentiable) return -1;
  double given = 0;
  const double peak = peak_bytes(
      [&] {
        const Tensors outputs = w.run(), cotangents = ones_like(outputs);
        const Tensors gradients = torch::autograd::grad(outputs, w.inputs, cotangents, /*retain_graph=*/false,
                                                        /*create_graph=*/false, /*allow_unused=*/true);
        given = bytes_held(outputs) + bytes_held(cotangents) + bytes_held(gradients);
      },
      device);
  return peak < 0 ? -1 : std::max(0.0, peak - given);
}

// How many times longer the reference takes, pass by pass, at a shape that it can do in about a second: the gradients
// of its steps are each as large as the whole, so that its backward takes the square of the length.
void compare(const Options& options, const Shape& shape, std::vector<Row>& rows) {
  constexpr double kMostWork = 1 << 22;
  constexpr int64_t kLongest = 64;
  Shape smaller = shape;
  if (!options.reference || !shrink(smaller, [](const Shape& s) { return work_of(s) <= kMostWork && s.L <= kLongest; }))
    return;
  const Workload w = make_workload(smaller, options.type, options.device);
  if (!w.reference) return;
  const Passes ours = passes_of(w.run, w), plain = passes_of(w.reference, w);
  for (Row& row : rows) {
    const bool forward = row.pass == "forward";
    const auto times = measure({forward ? ours.forward : ours.backward, forward ? plain.forward : plain.backward},
                               options.device, options.seconds / 2);
    row.over_reference = times[1].median / times[0].median;
    row.reference_shape = smaller.text();
  }
}

std::vector<Row> measure_shape(const Options& options, const Shape& shape, const std::string& scaled) {
  std::vector<Row> rows;
  {
    const Workload w = make_workload(shape, options.type, options.device);
    const Passes passes = passes_of(w.run, w);
    const auto add = [&](const char* pass, const std::function<void()>& work, const Cost& cost) {
      Row row;
      row.shape = shape, row.pass = pass, row.scaled = scaled, row.cost = cost;
      row.times = measure({work}, options.device, options.seconds)[0];
      rows.push_back(row);
    };
    add("forward", passes.forward, w.forward);
    if (passes.backward) add("backward", passes.backward, w.backward);
  }
  const Workload fresh = make_workload(shape, options.type, options.device);
  for (Row& row : rows) row.extra_bytes = extra_bytes(fresh, options.device);
  compare(options, shape, rows);
  return rows;
}

std::string number(double value, int decimals) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}
std::string number(double value) { return value <= 0 ? "-" : number(value, value < 10 ? 2 : value < 100 ? 1 : 0); }

double rate(double amount, const Times& times) { return amount / (times.median * 1e-3); }

// The larger share of what memory and the special-function units allow, and which it is.
std::string share(const Row& row, const Limits& limits) {
  const double memory = limits.bytes_per_second > 0 ? rate(row.cost.bytes, row.times) / limits.bytes_per_second : 0;
  const double exps = limits.exps_per_second > 0 ? rate(row.cost.exps, row.times) / limits.exps_per_second : 0;
  if (memory == 0 && exps == 0) return "-";
  if (memory > 1) return "in cache";
  return number(100 * std::max(memory, exps), 0) + (memory >= exps ? " % mem" : " % exp");
}

void print_heading() {
  std::printf("%-23s %-27s %-8s %9s %19s %6s %6s %7s %9s %9s %8s\n", "op", "shape", "pass", "ms", "(least - most)",
              "GB/s", "Gexp/s", "Gstep/s", "of limit", "extra MiB", "x ATen");
}

void print_row(const Row& row, const Limits& limits) {
  const auto& t = row.times;
  char spread[48];
  std::snprintf(spread, sizeof spread, "(%.3f - %.3f)", t.least, t.most);
  std::printf("%-23s %-27s %-8s %9.3f %19s %6s %6s %7s %9s %9s %8s\n", row.shape.op.c_str(), row.shape.text().c_str(),
              row.pass.c_str(), t.median, spread, number(rate(row.cost.bytes, t) / 1e9).c_str(),
              number(rate(row.cost.exps, t) / 1e9).c_str(), number(rate(row.cost.steps, t) / 1e9).c_str(),
              share(row, limits).c_str(),
              row.pass == "forward" || row.extra_bytes < 0 ? "-" : number(row.extra_bytes / 1048576, 1).c_str(),
              row.over_reference ? number(*row.over_reference).c_str() : "-");
}

bool wanted(const Options& options, const Shape& shape) {
  return options.ops.empty() || std::find(options.ops.begin(), options.ops.end(), shape.op) != options.ops.end();
}

}  // namespace

std::vector<Row> run(const Options& options, const Limits& limits) {
  const double most = options.memory_gib > 0 ? options.memory_gib * 1073741824 : available_bytes(options.device) / 2;
  std::vector<Row> all;
  print_heading();
  for (const auto& name : options.shapes)
    for (Shape shape : shapes_of(name)) {
      if (!wanted(options, shape)) continue;
      const std::string asked = shape.text();
      const double work = work_of(shape);
      if (!shrink(shape, [&](const Shape& s) { return bytes_of(s, options.type) <= most; })) {
        std::printf("%-23s %-27s skipped: needs more than %s GiB even when scaled down\n", shape.op.c_str(),
                    asked.c_str(), number(most / 1073741824, 1).c_str());
        continue;
      }
      const std::string scaled = shape.text() == asked ? "" : asked;
      if (!scaled.empty())
        std::printf("%-23s %-27s scaled down to %s (%s of the work): would need more than %s GiB\n", shape.op.c_str(),
                    asked.c_str(), shape.text().c_str(), number(work_of(shape) / work, 4).c_str(),
                    number(most / 1073741824, 1).c_str());
      for (const Row& row : measure_shape(options, shape, scaled)) {
        print_row(row, limits);
        all.push_back(row);
      }
      std::fflush(stdout);
    }
  return all;
}

io::Json to_json(const Options& options, const Limits& limits, const std::vector<Row>& rows) {
  io::Json json = io::Json::object();
  json.set("vlmamba", version());
  json.set("libtorch", libtorch_version());
  json.set("device", limits.name);
  json.set("threads", int64_t{at::get_num_threads()});
  json.set("instructions", options.device.is_cpu() ? instructions() : "");
  json.set("dtype", std::string(c10::toString(options.type)));
  json.set("copy_bytes_per_second", limits.bytes_per_second);
  json.set("exps_per_second", limits.exps_per_second);
  io::Json list = io::Json::array();
  for (const Row& row : rows) {
    io::Json one = io::Json::object();
    one.set("op", row.shape.op);
    one.set("shape", row.shape.text());
    if (!row.scaled.empty()) one.set("scaled_down_from", row.scaled);
    one.set("pass", row.pass);
    one.set("median_ms", row.times.median);
    one.set("least_ms", row.times.least);
    one.set("most_ms", row.times.most);
    one.set("repetitions", row.times.count);
    one.set("bytes", row.cost.bytes);
    one.set("exps", row.cost.exps);
    one.set("state_steps", row.cost.steps);
    if (row.extra_bytes >= 0) one.set("extra_bytes", row.extra_bytes);
    if (row.over_reference) {
      one.set("times_as_fast_as_aten", *row.over_reference);
      one.set("compared_at", row.reference_shape);
    }
    list.push(one);
  }
  json.set("rows", list);
  return json;
}

}  // namespace vlmamba::bench
