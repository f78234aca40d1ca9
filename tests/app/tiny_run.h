#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "vlmamba/app/main.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/images/png.h"

// A run small enough for tests: two stages of a few steps over a dozen records with pictures of 8x8 pixels.
namespace vlmamba::test {

namespace fs = std::filesystem;

inline void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

inline std::string read(const fs::path& path) { return io::read_file(path.string(), ExitCode::kIo); }

/// A fresh folder that lives as long as the test.
class Folder {
 public:
  Folder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(info->test_suite_name()) + "-" + info->name();
    for (char& c : name)
      if (c == '/') c = '-';
    path_ = fs::path(testing::TempDir()) / ("vlmamba-" + name);
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  fs::path operator/(const std::string& name) const { return path_ / name; }
  std::string text() const { return path_.string(); }

 private:
  fs::path path_;
};

inline void make_pictures(const fs::path& folder, int count) {
  fs::create_directories(folder);
  for (int i = 0; i < count; ++i) {
    io::Image image{8, 8, {}};
    for (int j = 0; j < 192; ++j) image.rgb.push_back(static_cast<uint8_t>((i * 37 + j * 11) % 256));
    io::write_png((folder / (std::to_string(i) + ".png")).string(), image);
  }
}

/// Twelve records, every third without a picture, and six questions.
inline void make_data(const fs::path& folder) {
  make_pictures(folder / "images", 12);
  std::string records = "[", questions;
  for (int i = 0; i < 12; ++i) {
    const std::string n = std::to_string(i), image = i % 3 == 2 ? "" : R"("image": "images/)" + n + R"(.png", )";
    records += std::string(i ? ",\n" : "\n") + R"({"id": "r)" + n + R"(", )" + image +
               R"("conversations": [{"from": "human", "value": ")" + (i % 3 == 2 ? "" : "<image>\\n") +
               "what is in the center?" + R"("}, {"from": "gpt", "value": ")" + std::to_string(i % 10) + R"("}]})";
    if (i < 6)
      questions += R"({"question_id": )" + n + R"(, "image": "images/)" + n +
                   R"(.png", "text": "is there a 3?", "category": ")" + (i % 2 ? "odd" : "even") +
                   R"(", "answer": "yes"})" + "\n";
  }
  write(folder / "records.json", records + "\n]\n");
  write(folder / "questions.jsonl", questions);
}

inline std::string config_text(const std::string& tokenizer) {
  const std::string stage =
      R"("steps": 5, "data": {"sets": [{"name": "tiny", "records": "records.json", "image_root": ""}]},
      "batch": {"global_batch": 8, "micro_batch": 4, "max_length": 64, "loader_threads": 0},
      "checkpoint": {"every": 1, "keep_last": 0}})";
  return R"({
  "seed": 3,
  "tokenizer": ")" +
         tokenizer + R"(",
  "model": {
    "vision_encoder": {"kind": "siglip", "image_size": 8, "patch_size": 4, "hidden_size": 8, "intermediate_size": 16,
                       "num_layers": 2, "num_heads": 2, "feature_layer": -2},
    "connector": {"kind": "vss_l2", "vss": {"d_state": 4}},
    "language_model": {"vocab_size": 465, "hidden_size": 16, "num_layers": 2, "d_state": 4}
  },
  "image_processor": {"size": 8},
  "prompt": {"system": ""},
  "stages": [
    {"name": "align", "trainable": ["connector"], )" +
         stage + R"(,
    {"name": "instruct", "trainable": ["connector", "language_model"], )" +
         stage + R"(
  ],
  "eval": {"sampling": {"max_new_tokens": 4}, "batch": 4,
           "tasks": [{"name": "tiny", "questions": "questions.jsonl"}, {"name": "blind", "questions": "questions.jsonl", "image": "blank"}]}
})";
}

/// What a call of the program gave.
struct Outcome {
  int code;
  std::string out, err;
};

/// Calls the program within this process.
inline Outcome vlmamba(const std::vector<std::string>& arguments, const Extensions& extensions = {}) {
  std::vector<std::string> all{"vlmamba"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& argument : all) argv.push_back(argument.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int code = app::main(static_cast<int>(argv.size()), argv.data(), extensions);
  const std::string out = testing::internal::GetCapturedStdout();
  return {code, out, testing::internal::GetCapturedStderr()};
}

/// A folder with data, a config, and the arguments that train it.
struct TinyRun {
  Folder folder;
  std::string config = (folder / "config.json").string(), data = folder.text() + "/data";

  TinyRun() {
    make_data(data);
    write(config, config_text(std::string(VLMAMBA_SOURCE_DIR) + "/configs/quickstart/tokenizer.json"));
  }
  std::string run(const std::string& name = "run") const { return (folder / name).string(); }
  Outcome train(const std::vector<std::string>& settings = {}, const std::string& name = "run",
                const Extensions& extensions = {}) const {
    std::vector<std::string> arguments{"train", "--config",         config, "--set", "output_dir=" + run(name),
                                       "--set", "data_root=" + data};
    for (const auto& setting : settings) arguments.insert(arguments.end(), {"--set", setting});
    return vlmamba(arguments, extensions);
  }
};

}  // namespace vlmamba::test
