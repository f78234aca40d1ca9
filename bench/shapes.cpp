#include "bench/shapes.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "vlmamba/core/error.h"

namespace vlmamba::bench {
namespace {

Shape sequence(const char* op, int64_t B, int64_t L, int64_t D, int64_t N = 16) {
  Shape shape;
  shape.op = op, shape.B = B, shape.L = L, shape.D = D, shape.N = N;
  return shape;
}

Shape plain(Shape shape) {
  shape.gated = false;
  return shape;
}

Shape map(const char* op, int64_t B, int64_t side, int64_t D, int64_t K, int64_t N = 16, const char* block = "") {
  Shape shape = sequence(op, B, side * side, D, N);
  shape.height = shape.width = side;
  shape.K = K;
  shape.block = block;
  return shape;
}

std::vector<Shape> language_model(int64_t B, int64_t L, int64_t inner) {
  return {sequence("selective_scan", B, L, inner), sequence("causal_conv1d", B, L, inner),
          sequence("add_rms_norm", B, L, inner / 2), sequence("rms_norm", B, L, inner / 2)};
}

std::vector<Shape> decode() {
  std::vector<Shape> shapes;
  for (const int64_t B : {1, 8, 64}) {
    shapes.push_back(sequence("selective_state_update", B, 1, 5120));
    shapes.push_back(sequence("causal_conv1d_update", B, 1, 5120));
  }
  return shapes;
}

// SigLIP's 27 x 27 patches: inner channels of a VSS at the encoder's width (1152) and at the language model's (2560).
std::vector<Shape> connector() {
  std::vector<Shape> shapes;
  for (const int64_t D : {2304, 5120})
    for (const int64_t K : {1, 2, 4}) shapes.push_back(map("selective_scan_2d", 64, 27, D, K));
  for (const int64_t K : {2, 4}) shapes.push_back(map("causal_conv1d_2d", 64, 27, 5120, K));
  shapes.push_back(map("cross_scan", 64, 27, 2304, 4));
  shapes.push_back(map("cross_merge", 64, 27, 2304, 4));
  return shapes;
}

std::vector<Shape> modules(int64_t B, int64_t side, int64_t width) {
  std::vector<Shape> shapes;
  for (const char* block : {"mamba", "ss2d"})
    for (const int64_t K : {2, 4}) shapes.push_back(map("vss", B, side, width, K, 16, block));
  return shapes;
}

// The stages of VMamba-T at 224 pixels: one state, where bytes decide.
std::vector<Shape> vmamba() {
  return {map("selective_scan_2d", 128, 56, 96, 4, 1), map("selective_scan_2d", 128, 28, 192, 4, 1),
          map("selective_scan_2d", 128, 14, 384, 4, 1), map("selective_scan_2d", 128, 7, 768, 4, 1)};
}

std::vector<Shape> cpu() {
  return {plain(sequence("selective_scan", 1, 512, 1536)),
          sequence("selective_scan", 1, 512, 1536),
          sequence("causal_conv1d", 1, 512, 1536),
          sequence("rms_norm", 1, 512, 768),
          sequence("add_rms_norm", 1, 512, 768),
          map("selective_scan_2d", 1, 27, 1536, 2),
          map("selective_scan_2d", 1, 27, 1536, 4),
          map("causal_conv1d_2d", 1, 27, 1536, 2),
          map("cross_scan", 1, 27, 1536, 4),
          map("cross_merge", 1, 27, 1536, 4),
          sequence("selective_state_update", 1, 1, 1536),
          sequence("causal_conv1d_update", 1, 1, 1536)};
}

// What configs/quickstart.json trains: 9 patches, width 128, rows of about 40 ids.
std::vector<Shape> quickstart() {
  auto shapes = language_model(64, 40, 256);
  shapes.push_back(map("selective_scan_2d", 64, 3, 256, 2));
  shapes.push_back(map("causal_conv1d_2d", 64, 3, 256, 2));
  shapes.push_back(map("vss", 64, 3, 128, 2, 16, "mamba"));
  shapes.push_back(map("vss", 64, 3, 128, 2, 16, "ss2d"));
  return shapes;
}

std::vector<Shape> vss() {
  auto shapes = modules(64, 27, 1152);
  const auto wide = modules(64, 27, 2560);
  shapes.insert(shapes.end(), wide.begin(), wide.end());
  return shapes;
}

[[noreturn]] void refuse(const std::string& given, const std::string& why) {
  std::string names;
  for (const auto& suite : suites()) names += std::string(names.empty() ? "" : ", ") + suite.name;
  throw Error(ExitCode::kUsage, "--shapes",
              "expected a suite (" + names + ") or sizes as \"B8 L2048 D5120 N16\" or \"B64 27x27 D2304 K2\", got \"" +
                  given + "\": " + why);
}

int64_t number(const std::string& text, const std::string& given) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos ||
      std::stoll(text) < 1)
    refuse(given, "\"" + text + "\" is no size");
  return std::stoll(text);
}

Shape parse(const std::string& given) {
  Shape shape;
  std::istringstream words(given);
  std::map<char, int64_t*> sizes{{'B', &shape.B}, {'L', &shape.L}, {'D', &shape.D}, {'N', &shape.N},
                                 {'G', &shape.G}, {'W', &shape.W}, {'K', &shape.K}};
  for (std::string word; words >> word;) {
    const auto x = word.find('x');
    if (x != std::string::npos) {
      shape.height = number(word.substr(0, x), given);
      shape.width = number(word.substr(x + 1), given);
      shape.L = shape.height * shape.width;
    } else if (const auto size = sizes.find(word[0]); size != sizes.end()) {
      *size->second = number(word.substr(1), given);
    } else {
      refuse(given, "\"" + word + "\" is not understood");
    }
  }
  if (shape.K == 3 || shape.K > 4) refuse(given, "K is 1, 2 or 4");
  if (shape.D % shape.G != 0) refuse(given, "G must divide D");
  return shape;
}

std::vector<Shape> custom(const std::string& given) {
  const Shape sizes = parse(given);
  std::vector<Shape> shapes;
  for (const auto& op : op_names()) {
    const bool wants_map =
        op == "selective_scan_2d" || op == "causal_conv1d_2d" || op == "vss" || op.starts_with("cross");
    if (wants_map != sizes.map()) continue;
    Shape shape = sizes;
    shape.op = op;
    if (op == "vss") shape.block = "mamba";
    shapes.push_back(shape);
    if (op == "vss") shape.block = "ss2d", shapes.push_back(shape);
  }
  return shapes;
}

}  // namespace

const std::vector<Suite>& suites() {
  static const std::vector<Suite> all{{"cpu", "all ops at B1 L512 D1536 N16"},
                                      {"lm", "Mamba-2.8B's layer: B8 L2048 D5120 N16"},
                                      {"decode", "one step of it for 1, 8 and 64 rows"},
                                      {"connector", "the scans over 64 maps of 27x27, D2304 and D5120, K 1, 2, 4"},
                                      {"vss", "whole VSS modules over such maps, both blocks"},
                                      {"vmamba", "VMamba-T's four stages, N1"},
                                      {"quickstart", "what configs/quickstart.json trains"}};
  return all;
}

const std::vector<std::string>& op_names() {
  static const std::vector<std::string> all{"selective_scan",
                                            "selective_scan_2d",
                                            "causal_conv1d",
                                            "causal_conv1d_2d",
                                            "rms_norm",
                                            "add_rms_norm",
                                            "cross_scan",
                                            "cross_merge",
                                            "selective_state_update",
                                            "causal_conv1d_update",
                                            "vss"};
  return all;
}

std::vector<Shape> shapes_of(const std::string& name) {
  if (name == "cpu") return cpu();
  if (name == "lm") return language_model(8, 2048, 5120);
  if (name == "decode") return decode();
  if (name == "connector") return connector();
  if (name == "vss") return vss();
  if (name == "vmamba") return vmamba();
  if (name == "quickstart") return quickstart();
  return custom(name);
}

std::string Shape::text() const {
  std::ostringstream out;
  out << "B" << B << " ";
  if (map())
    out << height << "x" << width << " ";
  else if (L > 1 || op == "selective_scan")
    out << "L" << L << " ";
  out << "D" << D;
  const bool scans =
      op == "selective_scan" || op == "selective_scan_2d" || op == "selective_state_update" || op == "vss";
  if (map()) out << " K" << K;
  if (scans) out << " N" << N;
  if (G > 1) out << " G" << G;
  if (op == "selective_scan" && !gated) out << " plain";
  if (!block.empty()) out << " " << block;
  return out.str();
}

}  // namespace vlmamba::bench
