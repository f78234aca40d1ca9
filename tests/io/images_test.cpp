#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/images/png.h"

namespace vlmamba::io {
namespace {

namespace fs = std::filesystem;
const fs::path kImages = fs::path(VLMAMBA_SHARED_DATA) / "image_preproc" / "images";

TEST(Images, DecodeAsPillowDoes) {
  if (!fs::exists(kImages)) GTEST_SKIP() << "no pictures in " << kImages;
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(kImages)) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    const Image image = read_image(entry.path().string());
    const Image expected = read_image((kImages.parent_path() / "decoded" / (name + ".png")).string());
    ASSERT_EQ(image.width, expected.width);
    ASSERT_EQ(image.height, expected.height);
    int largest = 0;
    for (size_t i = 0; i < image.rgb.size(); ++i) largest = std::max(largest, std::abs(image.rgb[i] - expected.rgb[i]));
    const bool exact = name.ends_with(".png") || name.ends_with(".gif") || name == "gif_named.jpg";
    EXPECT_LE(largest, exact ? 0 : 2);
    ++compared;
  }
  EXPECT_EQ(compared, 14);
}

TEST(Images, EveryTruncatedFileIsAnErrorThatNamesIt) {
  if (!fs::exists(kImages)) GTEST_SKIP() << "no pictures in " << kImages;
  for (const auto& entry : fs::directory_iterator(kImages)) {
    const std::string bytes = read_file(entry.path().string(), ExitCode::kData);
    for (const double share : {0.0, 0.001, 0.02, 0.3, 0.6, 0.9}) {
      const auto kept = static_cast<size_t>(static_cast<double>(bytes.size()) * share);
      try {
        decode_image(std::string_view(bytes).substr(0, kept), "the picture");
        // What matters of an animation is its first frame.
        EXPECT_EQ(entry.path().extension(), ".gif") << entry.path() << " cut to " << kept << " of " << bytes.size();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kData);
        EXPECT_THAT(error.what(), testing::StartsWith("[the picture] "));
      }
    }
  }
}

TEST(Images, AWrittenPngReadsBack) {
  Image image{5, 3, {}};
  for (int i = 0; i < 45; ++i) image.rgb.push_back(static_cast<uint8_t>(i * 5));
  const std::string path = testing::TempDir() + "/written.png";
  write_png(path, image);
  const Image back = read_image(path);
  EXPECT_EQ(back.width, 5);
  EXPECT_EQ(back.height, 3);
  EXPECT_EQ(back.rgb, image.rgb);
}

TEST(Images, SomethingElseIsRefused) {
  try {
    decode_image("<html>404</html>", "images/1.jpg");
    FAIL() << "decoded a web page";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("images/1.jpg"), testing::HasSubstr("JPEG, PNG, WebP or GIF")));
  }
}

}  // namespace
}  // namespace vlmamba::io
