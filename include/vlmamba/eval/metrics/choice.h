#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vlmamba {

/// ScienceQA: the letter that an answer chooses, or none: one of A..E; else a first letter A..E before `. `; else the
/// one match of `The answer is ([A-Z]).`, where the last period stands for any character but a line feed. Source:
/// LLaVA's eval_science_qa.py.
std::optional<char> scienceqa_letter(std::string_view answer);

/// MMBench: the letter that an answer chooses among options A, B, … of these texts: an option letter that stands alone
/// among the last four words, else the one option whose text the answer contains. 'Z' for a refusal; nothing where the
/// rules do not decide and a judge would be asked. Source: VLMEvalKit's can_infer (without its later "answer is X"
/// pattern).
std::optional<char> mmbench_choice(std::string_view answer, const std::vector<std::string>& options);

}  // namespace vlmamba
