#pragma once

#include "tests/app/tiny_run.h"

namespace vlmamba::test {

/// Writes what a run of two stages and an evaluation leave behind, with these answers to five questions.
inline void write_evaluated_run(const fs::path& data, const fs::path& run, int seed, const std::string& lr,
                                const std::vector<std::string>& answers) {
  fs::create_directories(data);
  make_pictures(data / "images", 5);
  std::string questions, lines;
  int right = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::string n = std::to_string(i), id = "<q>&" + n;
    questions += R"({"question_id": ")" + id + R"(", "image": "images/)" + n + R"(.png", "text": "is it <b>)" + n +
                 R"(</b> & more?", "category": ")" + (i % 2 ? "odd" : "even") + R"(", "answer": "yes"})" + "\n";
    lines += R"({"question_id": ")" + id + R"(", "prompt": "p", "text": ")" + answers[i] +
             R"(", "answer_id": "a", "model_id": "m", "metadata": {}})" + "\n";
    right += answers[i] == "yes" ? 1 : 0;
  }
  write(data / "questions.jsonl", questions);
  const std::string eval = R"({"batch": 4, "tasks": [{"name": "tiny", "questions": ")" +
                           (data / "questions.jsonl").string() + R"(", "image_root": ")" + data.string() + R"("}]})";
  write(run / "config.json", R"({"seed": )" + std::to_string(seed) + R"(, "output_dir": ")" + run.string() +
                                 R"(", "stages": [{"name": "align", "lr": 1}, {"name": "instruct", "lr": )" + lr +
                                 R"(}], "eval": )" + eval + "}");
  for (const char* stage : {"align", "instruct"}) {
    write(run / stage / "metrics.jsonl", "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": 1.5}\n");
    const fs::path step = run / stage / "checkpoints" / "step_00000002";
    write(step / "state.json", R"({"step": 2, "total_steps": 2})");
    write(step / "manifest.json", "{}");
  }
  const double percent = 100.0 * right / static_cast<double>(answers.size());
  const fs::path task = run / "eval" / "instruct_step_2" / "tiny";
  write(task / "answers.jsonl", lines);
  write(task / "results.json",
        R"({"task": "tiny", "image": "real", "score": )" + std::to_string(percent) + R"(, "num_questions": 5,
            "metrics": {"exact_match": )" +
            std::to_string(percent) + R"(, "exact_match_by_category/even": 50.0, "exact_match_by_category/odd": 25.0},
            "provenance": {"stage": "instruct", "step": 2, "checkpoint_sha256": "c0ffee)" +
            lr + R"(", "config_sha256": "abc", "vlmamba": "0.1.0", "libtorch": "2.11.0", "command": "vlmamba evaluate",
            "eval": )" +
            eval + "}}");
}

}  // namespace vlmamba::test
