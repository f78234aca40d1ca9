#pragma once

#include <array>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

/// Whose prompts and rules a benchmark follows: LLaVA's scripts, or lmms-eval where it differs from them.
enum class Protocol { kLlava, kLmmsEval };
constexpr auto enum_names(Protocol) {
  return std::array{EnumName<Protocol>{Protocol::kLlava, "llava"},
                    EnumName<Protocol>{Protocol::kLmmsEval, "lmms_eval"}};
}

/// Where TextVQA's prompts name the words that an OCR system read.
enum class OcrTokens { kQuestionFirst, kOcrFirst, kNone };
constexpr auto enum_names(OcrTokens) {
  return std::array{EnumName<OcrTokens>{OcrTokens::kQuestionFirst, "question_first"},
                    EnumName<OcrTokens>{OcrTokens::kOcrFirst, "ocr_first"},
                    EnumName<OcrTokens>{OcrTokens::kNone, "none"}};
}

/// A question of a task. What is asked is a picture, if there is one, and `text`.
struct TaskQuestion {
  std::string id;
  bool integer_id = false;  ///< written without quotes
  std::string image;        ///< path; empty where there is none or `picture` holds it
  std::string picture;      ///< an encoded picture, where the benchmark keeps them in its table
  std::string text;
  std::string prompt;  ///< as it is recorded beside the answer; LLaVA's scripts do not always record what they ask
  std::string category;
  std::vector<std::string> truths;      ///< right answers, where the task itself scores
  std::vector<std::string> options;     ///< of a choice
  io::Json extra = io::Json::object();  ///< further fields of the line in answers.jsonl
};

/// How a benchmark is asked.
struct AskOptions {
  Protocol protocol = Protocol::kLlava;
  OcrTokens ocr_tokens = OcrTokens::kQuestionFirst;
};

}  // namespace vlmamba
