#include "scene.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "vlmamba/core/error.h"

namespace quickstart {
namespace {

using vlmamba::Rng;

constexpr int kDigitPixels = 8;
constexpr int kDrawnPixels = 14;
constexpr double kEmptyShare = 0.4;
constexpr std::array<const char*, kCells> kPlaces{"top left",    "top center",    "top right",
                                                  "middle left", "center",        "middle right",
                                                  "bottom left", "bottom center", "bottom right"};
constexpr std::array<const char*, kGrid> kRows{"top row", "middle row", "bottom row"};
constexpr std::array<const char*, kGrid> kColumns{"left column", "center column", "right column"};

std::string word(int cell) { return cell == kEmpty ? "nothing" : std::to_string(cell); }

std::string line_of(const Scene& scene, int first, int step) {
  return word(scene.cells[first]) + " " + word(scene.cells[first + step]) + " " + word(scene.cells[first + 2 * step]);
}

// The cells that hold a value which no other cell holds, at or after the given row and column.
std::vector<int> unique_cells(const Scene& scene, int first_row, int first_column) {
  std::vector<int> found;
  for (int i = 0; i < kCells; ++i)
    if (scene.cells[i] != kEmpty && i / kGrid >= first_row && i % kGrid >= first_column &&
        std::count(scene.cells.begin(), scene.cells.end(), scene.cells[i]) == 1)
      found.push_back(i);
  return found;
}

Question ask_what(const Scene& scene, Rng& rng) {
  const auto cell = rng.below(kCells);
  return {"what", std::string("what is in the ") + kPlaces[cell] + "?", word(scene.cells[cell])};
}

Question ask_count(const Scene& scene, Rng&) {
  const auto empty = std::count(scene.cells.begin(), scene.cells.end(), kEmpty);
  return {"count", "how many digits are there?", std::to_string(kCells - empty)};
}

Question ask_exists(const Scene& scene, Rng& rng) {
  const bool yes = rng.below(2) == 0;
  std::vector<int> values;
  for (int value = 0; value < 10; ++value)
    if ((std::count(scene.cells.begin(), scene.cells.end(), value) > 0) == yes) values.push_back(value);
  if (values.empty()) return ask_what(scene, rng);
  return {"exists", "is there a " + std::to_string(values[rng.below(values.size())]) + "?", yes ? "yes" : "no"};
}

Question ask_where(const Scene& scene, Rng& rng) {
  const auto cells = unique_cells(scene, 0, 0);
  if (cells.empty()) return ask_what(scene, rng);
  const int cell = cells[rng.below(cells.size())];
  return {"where", "where is the " + word(scene.cells[cell]) + "?", kPlaces[cell]};
}

Question ask_neighbour(const Scene& scene, Rng& rng, bool above) {
  const auto cells = unique_cells(scene, above ? 1 : 0, above ? 0 : 1);
  if (cells.empty()) return ask_what(scene, rng);
  const int cell = cells[rng.below(cells.size())];
  const std::string relation = above ? "above" : "left of";
  return {above ? "above" : "left of", "what is " + relation + " the " + word(scene.cells[cell]) + "?",
          word(scene.cells[cell - (above ? kGrid : 1)])};
}

Question ask_line(const Scene& scene, Rng& rng, bool row) {
  const int index = static_cast<int>(rng.below(kGrid));
  return {row ? "row" : "column", std::string("read the ") + (row ? kRows : kColumns)[index],
          row ? line_of(scene, kGrid * index, 1) : line_of(scene, index, kGrid)};
}

// Every digit that occurs once, in the order of their values, with its place.
Question ask_digits(const Scene& scene) {
  auto cells = unique_cells(scene, 0, 0);
  std::sort(cells.begin(), cells.end(), [&](int a, int b) { return scene.cells[a] < scene.cells[b]; });
  std::string text;
  for (const int cell : cells)
    text += std::string(text.empty() ? "" : " ") + word(scene.cells[cell]) + " " + kPlaces[cell];
  return {"digits", "where are the digits?", text.empty() ? "nothing" : text};
}

// The digit's ink at a drawn pixel, bilinear, 0 to 1.
double ink(const Digit& digit, int y, int x) {
  const auto at = [&](int row, int column) {
    if (row < 0 || column < 0 || row >= kDigitPixels || column >= kDigitPixels) return 0.0;
    return digit.pixels[row * kDigitPixels + column] / 16.0;
  };
  const double scale = static_cast<double>(kDigitPixels) / kDrawnPixels;
  const double v = (y + 0.5) * scale - 0.5, u = (x + 0.5) * scale - 0.5;
  const int row = static_cast<int>(std::floor(v)), column = static_cast<int>(std::floor(u));
  const double dv = v - row, du = u - column;
  return (1 - dv) * ((1 - du) * at(row, column) + du * at(row, column + 1)) +
         dv * ((1 - du) * at(row + 1, column) + du * at(row + 1, column + 1));
}

}  // namespace

Question ask_picture(const Scene& scene) {
  std::string text;
  for (int row = 0; row < kGrid; ++row) text += (row ? " " : "") + line_of(scene, row * kGrid, 1);
  return {"picture", "read the picture", text};
}

std::vector<Digit> read_digits(const std::string& path, Part part) {
  std::ifstream file(path);
  if (!file) throw vlmamba::Error(vlmamba::ExitCode::kData, path, "expected the handwritten digits, got no such file");
  std::vector<Digit> digits;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if ((number % 5 == 0) != (part == Part::kEvaluation)) continue;
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream values(line);
    Digit digit{};
    int value = 0;
    bool good = true;
    for (auto& pixel : digit.pixels) {
      good = good && (values >> value) && value >= 0 && value <= 16;
      pixel = static_cast<uint8_t>(value);
    }
    good = good && (values >> digit.value) && digit.value >= 0 && digit.value <= 9;
    if (!good)
      throw vlmamba::Error(vlmamba::ExitCode::kData, path + ":" + std::to_string(number),
                           "expected 64 pixels of 0 to 16 and a digit, got \"" + line.substr(0, 60) + "\"");
    digits.push_back(digit);
  }
  return digits;
}

Scene random_scene(Rng& rng) {
  Scene scene{};
  for (int& cell : scene.cells) cell = rng.uniform() < kEmptyShare ? kEmpty : static_cast<int>(rng.below(10));
  return scene;
}

std::vector<uint8_t> draw(const Scene& scene, const std::vector<Digit>& digits, Rng& rng) {
  const double paper = 60 * rng.uniform(), pen = 160 + 95 * rng.uniform();
  std::vector<uint8_t> pixels(kSide * kSide, static_cast<uint8_t>(paper));
  for (int cell = 0; cell < kCells; ++cell) {
    if (scene.cells[cell] == kEmpty) continue;
    const Digit* digit = nullptr;
    while (digit == nullptr || digit->value != scene.cells[cell]) digit = &digits[rng.below(digits.size())];
    const int room = kCellPixels - kDrawnPixels + 1;
    const int top = cell / kGrid * kCellPixels + static_cast<int>(rng.below(room));
    const int left = cell % kGrid * kCellPixels + static_cast<int>(rng.below(room));
    for (int y = 0; y < kDrawnPixels; ++y)
      for (int x = 0; x < kDrawnPixels; ++x)
        pixels[(top + y) * kSide + left + x] = static_cast<uint8_t>(paper + (pen - paper) * ink(*digit, y, x));
  }
  return pixels;
}

Question ask(const Scene& scene, Rng& rng, bool training) {
  switch (rng.below(training ? 12 : 8)) {
    case 8:
      return ask_picture(scene);
    case 9:
      return ask_digits(scene);
    case 0:
      return ask_what(scene, rng);
    case 1:
      return ask_where(scene, rng);
    case 2:
      return ask_count(scene, rng);
    case 3:
      return ask_exists(scene, rng);
    case 4:
    case 10:
      return ask_neighbour(scene, rng, /*above=*/false);
    case 5:
    case 11:
      return ask_neighbour(scene, rng, /*above=*/true);
    case 6:
      return ask_line(scene, rng, /*row=*/true);
    default:
      return ask_line(scene, rng, /*row=*/false);
  }
}

std::string describe(const Scene& scene) {
  std::string text;
  for (int cell = 0; cell < kCells; ++cell) {
    text += std::string(text.empty() ? "" : " ") + static_cast<char>('A' + cell);
    text += scene.cells[cell] == kEmpty ? "." : std::to_string(scene.cells[cell]);
  }
  return text;
}

}  // namespace quickstart
