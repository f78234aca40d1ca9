// Makes the quickstart's data: pictures of digit scenes, captions and conversations in LLaVA's format, and questions
// about scenes of digits that training never sees.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "scene.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/images/png.h"
#include "vlmamba/io/json.h"

namespace {

using quickstart::Scene;
using vlmamba::Rng;
using vlmamba::RngPurpose;
using vlmamba::io::Json;

constexpr int kQuestions = 4;  // in one conversation
Json turn(const std::string& from, const std::string& text) {
  Json turn = Json::object();
  turn.set("from", from);
  turn.set("value", text);
  return turn;
}

Json conversation(const Scene& scene, const std::string& prefix, Rng& rng) {
  Json turns = Json::array();
  for (int i = 0; i < kQuestions; ++i) {
    const auto question = quickstart::ask(scene, rng, /*training=*/true);
    turns.push(turn("human", (i == 0 ? prefix : "") + question.text));
    turns.push(turn("gpt", question.answer));
  }
  return turns;
}

Json caption(const Scene& scene, const std::string& prefix) {
  const auto question = quickstart::ask_picture(scene);
  Json turns = Json::array();
  turns.push(turn("human", prefix + question.text));
  turns.push(turn("gpt", question.answer));
  return turns;
}

Json record(const std::string& id, const std::string& image, Json turns) {
  Json record = Json::object();
  record.set("id", id);
  if (!image.empty()) record.set("image", image);
  record.set("conversations", std::move(turns));
  return record;
}

void write_picture(const std::filesystem::path& path, const Scene& scene, const std::vector<quickstart::Digit>& digits,
                   Rng& rng) {
  vlmamba::io::Image picture{quickstart::kSide, quickstart::kSide, {}};
  for (const uint8_t value : quickstart::draw(scene, digits, rng)) picture.rgb.insert(picture.rgb.end(), 3, value);
  std::ofstream file(path, std::ios::binary);  // thousands of files: not synced one by one
  file << vlmamba::io::encode_png(picture);
  if (!file.flush()) throw vlmamba::Error(vlmamba::ExitCode::kIo, path.string(), "expected to write a picture");
}

std::string number(int index) {
  char text[16];
  std::snprintf(text, sizeof text, "%05d", index);
  return text;
}

// Scenes of training digits: captions and conversations about one set of pictures.
void make_training(const std::filesystem::path& folder, const std::vector<quickstart::Digit>& digits, int count,
                   uint64_t seed) {
  std::filesystem::create_directories(folder / "images");
  Json align = Json::array(), instruct = Json::array();
  for (int i = 0; i < count; ++i) {
    Rng rng(seed, RngPurpose::kExample, static_cast<uint64_t>(i), 1);
    const Scene scene = quickstart::random_scene(rng);
    const std::string image = "images/" + number(i) + ".png";
    write_picture(folder / image, scene, digits, rng);
    align.push(record("align-" + number(i), image, caption(scene, "<image>\n")));
    instruct.push(record("instruct-" + number(i), image, conversation(scene, "<image>\n", rng)));
  }
  vlmamba::io::write_file_atomically((folder / "align.json").string(), align.to_string(0));
  vlmamba::io::write_file_atomically((folder / "instruct.json").string(), instruct.to_string(0));
}

// Scenes in words: the language model learns the language before it sees a picture.
void make_language(const std::filesystem::path& folder, int count, uint64_t seed) {
  Json records = Json::array();
  for (int i = 0; i < count; ++i) {
    Rng rng(seed, RngPurpose::kExample, static_cast<uint64_t>(i), 2);
    const Scene scene = quickstart::random_scene(rng);
    const std::string words = quickstart::describe(scene) + "\n";
    records.push(record("language-" + number(i), "", conversation(scene, words, rng)));
  }
  vlmamba::io::write_file_atomically((folder / "language.json").string(), records.to_string(0));
}

// Questions about scenes of unseen digits, in LLaVA's question format with the answer beside them.
void make_evaluation(const std::filesystem::path& folder, const std::vector<quickstart::Digit>& digits, int count,
                     uint64_t seed) {
  std::filesystem::create_directories(folder / "images");
  std::string lines;
  for (int i = 0; i < count; ++i) {
    Rng rng(seed, RngPurpose::kExample, static_cast<uint64_t>(i), 3);
    const Scene scene = quickstart::random_scene(rng);
    const std::string image = "images/" + number(i) + ".png";
    write_picture(folder / image, scene, digits, rng);
    for (int j = 0; j < kQuestions; ++j) {
      const auto question = quickstart::ask(scene, rng, /*training=*/false);
      Json line = Json::object();
      line.set("question_id", number(i) + "-" + std::to_string(j));
      line.set("image", image);
      line.set("text", question.text);
      line.set("category", question.kind);
      line.set("answer", question.answer);
      lines += line.to_string(-1) + "\n";
    }
  }
  vlmamba::io::write_file_atomically((folder / "questions.jsonl").string(), lines);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Makes pictures of digit scenes with captions, conversations and questions");
  std::string digits, output;
  uint64_t seed = 1;
  int scenes = 24000, described = 16000, held_out = 500;
  app.add_option("--digits", digits, "CSV file of the handwritten digits")->required();
  app.add_option("--output", output, "folder to make")->required();
  app.add_option("--seed", seed, "seed of every draw");
  app.add_option("--scenes", scenes, "pictures for training");
  app.add_option("--described", described, "scenes in words");
  app.add_option("--held-out", held_out, "pictures for evaluation");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::filesystem::path folder = output;
    make_training(folder / "training", quickstart::read_digits(digits, quickstart::Part::kTraining), scenes, seed);
    make_language(folder / "training", described, seed);
    make_evaluation(folder / "evaluation", quickstart::read_digits(digits, quickstart::Part::kEvaluation), held_out,
                    seed);
    std::printf("%s: %d training pictures, %d scenes in words, %d evaluation pictures\n", output.c_str(), scenes,
                described, held_out);
  } catch (const vlmamba::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
