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
  expect_quarter(resize(checker(12), 6, 6), {{0xe1, 0xe3, 0xd4}, {0xe3, 0xe5, 0xd6}, {0xd4, 0xd6, 0xc9}});
  expect_quarter(
      resize(checker(4), 8, 8),
      {{0xe1, 0xe5, 0xee, 0xb9}, {0xe5, 0xe9, 0xf3, 0xbc}, {0xee, 0xf3, 0xfd, 0xc1}, {0xb9, 0xbc, 0xc1, 0xa2}});
}

// The picture of tests/golden/image_processors.py.
io::Image golden_picture(const io::Json& size) {
  io::Image image{static_cast<int>(size.items()[0].as_integer()), static_cast<int>(size.items()[1].as_integer()), {}};
  for (int i = 0; i < image.width * image.height * 3; ++i)
    image.rgb.push_back(static_cast<uint8_t>((i * 37 + 11 * (i / 7)) % 256));
  return image;
}

const io::Json& goldens() {
  static const auto json =
      io::read_json(std::string(VLMAMBA_SOURCE_DIR) + "/tests/golden/image_processors.json", ExitCode::kData);
  return json;
}

TEST(Resize, EveryFilterIsPillows) {
  for (const auto& golden : goldens().find("resized")->items()) {
    const auto& to = golden.find("to")->items();
    const auto filter = static_cast<Resample>(golden.find("filter")->as_integer());
    const int width = static_cast<int>(to[0].as_integer()), height = static_cast<int>(to[1].as_integer());
    const io::Image image = golden_picture(*golden.find("from"));
    const io::Image whole = resize(image, width, height, filter);
    ASSERT_EQ(whole.rgb.size(), golden.find("rgb")->items().size());
    for (size_t i = 0; i < whole.rgb.size(); ++i)
      ASSERT_EQ(whole.rgb[i], golden.find("rgb")->items()[i].as_integer()) << golden.find("filter")->to_string();
    // A part is that part of the whole.
    const Window part{width / 2, height / 2, width - width / 2, height - height / 2};
    const io::Image corner = resize(image, width, height, filter, part);
    for (int y = 0; y < part.height; ++y)
      for (int x = 0; x < 3 * part.width; ++x)
        ASSERT_EQ(corner.rgb[static_cast<size_t>(y * 3 * part.width + x)],
                  whole.rgb[static_cast<size_t>((part.top + y) * 3 * width + 3 * part.left + x)]);
  }
}

TEST(ImageSteps, AProcessorFileIsWhatTransformersMakesOfIt) {
  for (const auto& golden : goldens().find("processed")->items()) {
    SCOPED_TRACE(golden.find("config")->to_string());
    const ImageProcessor processor(parse_image_steps(*golden.find("config"), "golden"));
    const Pixels pixels = processor.pixels(golden_picture(*golden.find("from")));
    const auto& shape = golden.find("shape")->items();
    ASSERT_EQ(pixels.height, shape[1].as_integer());
    ASSERT_EQ(pixels.width, shape[2].as_integer());
    for (size_t i = 0; i < pixels.values.size(); ++i)
      ASSERT_NEAR(pixels.values[i], golden.find("values")->items()[i].as_number(), 1e-5);
  }
}

TEST(ImageSteps, PublishedFilesAndTheFileAroundThemAreRead) {
  const auto parsed = [](const std::string& text) {
    return parse_image_steps(io::parse_json(text, "file", ExitCode::kWeights), "file");
  };
  const auto clip = parsed(R"({"crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 336})");
  EXPECT_EQ(clip.resize_to, ResizeTo::kShorterSide);
  EXPECT_EQ(clip.crop_width, 336);
  const auto siglip = parsed(R"({"processor_class": "SiglipProcessor", "image_processor": {"image_processor_type":
    "SiglipImageProcessorFast", "size": {"height": 384, "width": 384}, "resample": 3, "rescale_factor": 0.00392156862745098}})");
  EXPECT_EQ(siglip.resize_to, ResizeTo::kExactly);
  EXPECT_EQ(siglip.width, 384);
  EXPECT_EQ(siglip.crop_width, 0);
}

TEST(ImageSteps, WrongFilesAreNamed) {
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "expected an object"},
           {"{}", "image_processor_type: expected a name, got none"},
           {R"({"image_processor_type": "ViTImageProcessor"})", "expected CLIPImageProcessor or SiglipImageProcessor"},
           {R"({"image_processor_type": "CLIPImageProcessor", "size": 0})", "size: expected pixels of 1 to 65536"},
           {R"({"image_processor_type": "CLIPImageProcessor", "size": {"longest_edge": 3}})",
            "size: expected pixels, {height, width} or {shortest_edge}"},
           {R"({"image_processor_type": "CLIPImageProcessor", "crop_size": {"shortest_edge": 3}})",
            "crop_size: expected"},
           {R"({"image_processor_type": "CLIPImageProcessor", "resample": 7})", "resample: expected"},
           {R"({"image_processor_type": "CLIPImageProcessor", "resample": 6e111})", "resample: expected"},
           {R"({"image_processor_type": "CLIPImageProcessor", "resample": -1e300})", "resample: expected"},
           {R"({"image_processor_type": "CLIPImageProcessor", "size": 1e300})", "size: expected pixels"},
           {R"({"image_processor_type": "CLIPImageProcessor", "size": -3})", "size: expected pixels of 1 to 65536"},
           {R"({"image_processor_type": "CLIPImageProcessor", "crop_size": 99999999999})",
            "crop_size: expected pixels"},
           {R"({"image_processor_type": "CLIPImageProcessor", "image_std": [1, 0, 1]})",
            "image_std: expected numbers above 0"},
           {R"({"image_processor_type": "CLIPImageProcessor", "image_mean": [1, 2]})",
            "image_mean: expected a number or three"},
           {R"({"image_processor_type": "CLIPImageProcessor", "do_resize": 1})", "do_resize: expected true or false"},
           {R"({"image_processor_type": "CLIPImageProcessor", "do_image_splitting": true})",
            "do_image_splitting: expected false"},
           {R"({"image_processor_type": "SiglipImageProcessor", "do_center_crop": true})",
            "crop_size: expected a size"}})
    try {
      parse_image_steps(io::parse_json(text, "file", ExitCode::kWeights), "file");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kWeights);
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
    }
}

TEST(ImageProcessor, HugeResultsAreRefusedAndHugeResizesOfACropAreNotMade) {
  const io::Image line{1, 100'000, std::vector<uint8_t>(300'000, 7)};
  ImageProcessorConfig config;
  config.size = 336;
  config.mode = ImageMode::kCrop;  // to 336 x 33,600,000 first
  EXPECT_EQ(ImageProcessor(config).process(line).size(), 3u * 336 * 336);
  config.mode = ImageMode::kPad;  // 10^10 pixels
  EXPECT_THROW(ImageProcessor(config).process(line), Error);
}

}  // namespace
}  // namespace vlmamba
