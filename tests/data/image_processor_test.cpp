#include "vlmamba/data/image_processor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "vlmamba/io/weights/safetensors.h"

namespace vlmamba {
namespace {

const std::string kGoldens = std::string(VLMAMBA_SHARED_DATA) + "/image_preproc";

ImageProcessorConfig config_of(const io::Json& golden) {
  ImageProcessorConfig config;
  const bool squash = golden.find("resize")->as_string() == "squash";
  config.mode = golden.find("pad_to_square")->as_bool() ? ImageMode::kPad
                : squash                                ? ImageMode::kSquash
                                                        : ImageMode::kCrop;
  const io::Json& crop = *golden.find("crop");
  config.resize = golden.find("size")->as_integer();
  config.size = crop.is_null() ? config.resize : crop.as_integer();
  for (size_t c = 0; c < 3; ++c) {
    config.mean[c] = golden.find("mean")->items()[c].as_number();
    config.std[c] = golden.find("std")->items()[c].as_number();
  }
  return config;
}

TEST(ImageProcessor, GivesWhatThePythonProcessorsGive) {
  if (!std::filesystem::exists(kGoldens)) GTEST_SKIP() << "no image goldens in " << kGoldens;
  int compared = 0;
  const auto goldens = io::read_json(kGoldens + "/configs.json", ExitCode::kData);
  for (const auto& [name, golden] : goldens.members()) {
    const ImageProcessor processor(config_of(golden));
    const io::SafetensorsFile expected(kGoldens + "/expected/" + name + ".safetensors");
    for (const auto& tensor : expected.tensors()) {
      SCOPED_TRACE(name + " of " + tensor.name);
      const auto pixels = processor.process(io::read_image(kGoldens + "/decoded/" + tensor.name + ".png"));
      ASSERT_EQ(pixels.size() * sizeof(float), tensor.end - tensor.begin);
      float largest = 0;
      for (size_t i = 0; i < pixels.size(); ++i) {
        float wanted;
        std::memcpy(&wanted, expected.data(tensor) + i * sizeof wanted, sizeof wanted);
        largest = std::max(largest, std::abs(wanted - pixels[i]));
      }
      EXPECT_LT(largest, 1e-5);
      ++compared;
    }
  }
  EXPECT_GT(compared, 80);
}

// Pillow's own test of Resample.c: a checker of two values, whose resized top left quarter is printed there.
io::Image checker(int side) {
  io::Image image{side, side, {}};
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) image.rgb.insert(image.rgb.end(), 3, (x < side / 2) == (y < side / 2) ? 0xe1 : 0x1e);
  return image;
}

void expect_quarter(const io::Image& image, const std::vector<std::vector<int>>& rows) {
  const int side = image.width;
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      const bool bottom = y >= side / 2, right = x >= side / 2;
      const int value =
          rows[static_cast<size_t>(bottom ? side - 1 - y : y)][static_cast<size_t>(right ? side - 1 - x : x)];
      EXPECT_EQ(image.rgb[static_cast<size_t>(3 * (y * side + x))], bottom == right ? value : 255 - value)
          << y << ", " << x;
    }
}

TEST(ImageProcessor, ResizesAsPillowsOwnTestsSay) {
  expect_quarter(resize_bicubic(checker(12), 6, 6), {{0xe1, 0xe3, 0xd4}, {0xe3, 0xe5, 0xd6}, {0xd4, 0xd6, 0xc9}});
  expect_quarter(
      resize_bicubic(checker(4), 8, 8),
      {{0xe1, 0xe5, 0xee, 0xb9}, {0xe5, 0xe9, 0xf3, 0xbc}, {0xee, 0xf3, 0xfd, 0xc1}, {0xb9, 0xbc, 0xc1, 0xa2}});
}

}  // namespace
}  // namespace vlmamba
