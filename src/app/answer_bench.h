#pragma once

#include <cstdint>

namespace vlmamba::app {

/// What `vlmamba bench --answers` measures: how much faster questions are answered together.
struct AnswerBench {
  int64_t pictures = 2;
  int64_t questions = 30;  ///< about each picture
  int64_t ids = 24;        ///< of a question
  int64_t new_tokens = 5;  ///< of an answer
  int64_t batch = 32;
};

/// Answers the same questions of a model with random weights one by one, with shared pictures, and with shared pictures
/// in batches, and prints a table. Throws Error (internal) if shared answers differ in company.
void run(const AnswerBench& bench);

}  // namespace vlmamba::app
