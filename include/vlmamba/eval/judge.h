#pragma once

#include <map>
#include <string>
#include <vector>

namespace vlmamba {

/// What a judge is asked about one answer.
struct JudgeRequest {
  std::string id;
  std::string prompt;
};

/// How a benchmark's official script calls its judge.
struct JudgeCall {
  std::string model;
  int max_tokens;
};

/// Lines that OpenAI's batch interface takes as they are: {custom_id, method, url, body {model, temperature 0, …}}.
std::string to_batch(const std::vector<JudgeRequest>& requests, const JudgeCall& call);

/// A judge's words on one answer.
struct Judgement {
  std::string judge, text;
  std::string where;  ///< FILE:LINE
};

/// Reads what the judge said: the batch interface's output lines, or an object from id to words (whose judge is then
/// the file's name). Throws Error (data) naming file and line.
std::map<std::string, Judgement> read_judgements(const std::string& path);

}  // namespace vlmamba
