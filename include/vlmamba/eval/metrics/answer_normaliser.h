#pragma once

#include <map>
#include <string>
#include <string_view>

namespace vlmamba {

/// A short answer as VQAv2's official evaluation compares it when the ten answers differ: line feed and tab to space,
/// strip, punctuation, then number words, articles and contractions, in lower case. Source: vqaEval.py of
/// GT-Vision-Lab/VQA; its oddities are kept (at most 32 periods are removed; the test for a punctuation mark next to a
/// space looks at the text before any of them was replaced).
std::string vqa_processed(std::string_view answer);

/// The EvalAI answer processor, used for the VQAv2 upload and always by TextVQA: lower case, no commas and question
/// marks,
/// `'s` as a word, then as above. Source: m4c_evaluator.py of LLaVA (from Pythia).
std::string evalai_normalised(std::string_view answer);

/// Line feed and tab to space, strip: what VQAv2's evaluation does to every answer.
std::string vqa_stripped(std::string_view answer);

/// The 120 contractions, key to value.
const std::map<std::string_view, std::string_view>& contractions();

}  // namespace vlmamba
