#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vlmamba {

/// One answer of a model.
struct Answer {
  std::string id;      ///< an integer id as its decimal text
  std::string text;    ///< as it was given
  std::string prompt;  ///< as it was recorded; empty where the file has none
  std::string where;   ///< the part of the file beyond its name, for messages: a line, or FILE:LINE in a folder
};

/// A judge's grades of one answer, one a run. Source: MM-Vet's evaluator.
struct Grade {
  std::string id;
  std::vector<std::string> judges;
  std::vector<double> scores;
  int64_t line = 0;
};

enum class AnswerForm {
  kLines,    ///< LLaVA: a JSON object a line, {question_id, text, prompt?}
  kResults,  ///< an official result list: [{question_id, answer}] or [{questionId, prediction}]
  kMap,      ///< an object from id to text
  kGrades,   ///< an object from id to a judge's grades
  kColumns   ///< a folder of MME's {task}.txt: image, question, ground truth, prediction
};

/// A model's answers, in the order of the file.
struct AnswerFile {
  std::string path;
  AnswerForm form = AnswerForm::kLines;
  std::string model_id;  ///< of the first line that names one
  std::vector<Answer> answers;
  std::vector<Grade> grades;  ///< of kGrades alone
};

/// Reads a file of answers; its form is recognised by its content. Throws Error (data) that names file and line.
AnswerFile read_answers(const std::string& path);

/// `path`:`where`, for messages.
std::string place_of(const AnswerFile& file, const Answer& answer);

}  // namespace vlmamba
