#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vlmamba {

/// A person's answer. Answers that agree in text and tag count as one and the same entry, as the official script's
/// comparison of entries has it; with distinct ids in the tag, all are distinct.
struct HumanAnswer {
  std::string text;
  std::string tag;
};

/// VQAv2's accuracy of an answer, 0..1: the mean over the people i of min(1, number of people other than i who said the
/// same / 3). Both sides are processed (answer_normaliser.h) only if people differ. Source: vqaEval.py.
double vqa_accuracy(std::string_view answer, const std::vector<HumanAnswer>& people);

/// The same mean on texts that are normalised by the EvalAI processor, always; 0 if nobody said it. Source: LLaVA's
/// m4c_evaluator.py.
double textvqa_accuracy(std::string_view answer, const std::vector<std::string>& people);

}  // namespace vlmamba
