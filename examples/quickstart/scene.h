#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/rng.h"

/// Digit scenes: a 3x3 grid of cells of 16x16 pixels, some empty, some with a handwritten digit. The handwriting is the
/// UCI set "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak; CC BY 4.0): 1,797 digits of 8x8 pixels
/// with values 0 to 16.
namespace quickstart {

constexpr int kGrid = 3;
constexpr int kCells = kGrid * kGrid;
constexpr int kCellPixels = 16;
constexpr int kSide = kGrid * kCellPixels;  ///< width and height of a picture
constexpr int kEmpty = -1;

struct Digit {
  std::array<uint8_t, 64> pixels;  ///< 8x8 row by row, 0 to 16
  int value;                       ///< 0 to 9
};

/// Which digits may be drawn: one in five is never seen in training.
enum class Part { kTraining, kEvaluation };

/// Reads the CSV file: a digit a line, 64 pixels and the value. Throws vlmamba::Error (data) with the line.
std::vector<Digit> read_digits(const std::string& path, Part part);

struct Scene {
  std::array<int, kCells> cells;  ///< value or kEmpty, row by row
};

struct Question {
  std::string kind;  ///< the question type, e.g. "what", "where", "count"
  std::string text;
  std::string answer;
};

/// A random scene: each cell is empty with probability 0.4.
Scene random_scene(vlmamba::Rng& rng);

/// Draws the scene with random samples of its digits, small shifts and contrast: kSide x kSide grey values.
std::vector<uint8_t> draw(const Scene& scene, const std::vector<Digit>& digits, vlmamba::Rng& rng);

/// One question of a random kind that the scene answers unambiguously: what, where, count, exists, left of, above, row,
/// column, all as often. For training also about everything at once, which helps in learning, and twice as often about
/// neighbours, which need two steps of looking and are learnt last.
Question ask(const Scene& scene, vlmamba::Rng& rng, bool training);

/// What every cell holds, row by row: the caption.
Question ask_picture(const Scene& scene);

/// The scene in words, one for each patch of 16x16 pixels, row by row: "A3" says that the first cell (A to I) holds a
/// 3, "A." that it is empty.
std::string describe(const Scene& scene);

}  // namespace quickstart
