#include "vlmamba/eval/judge.h"

#include <filesystem>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba {
namespace {

using io::Json;

constexpr ExitCode kCode = ExitCode::kData;

// The first object of a list of choices, as deep as its message's content.
const std::string* content_of(const Json& line, std::string& judge) {
  const Json* response = line.find("response");
  const Json* body = response && response->is_object() ? response->find("body") : nullptr;
  const Json* choices = body && body->is_object() ? body->find("choices") : nullptr;
  if (choices == nullptr || !choices->is_array() || choices->items().empty()) return nullptr;
  if (const Json* model = body->find("model"); model && model->is_string()) judge = model->as_string();
  const Json* message = choices->items()[0].find("message");
  const Json* content = message ? message->find("content") : nullptr;
  return content && content->is_string() ? &content->as_string() : nullptr;
}

}  // namespace

std::string to_batch(const std::vector<JudgeRequest>& requests, const JudgeCall& call) {
  std::string lines;
  for (const auto& request : requests) {
    Json message = Json::object();
    message.append("role", "user");
    message.append("content", request.prompt);
    Json line = Json::object();
    line.append("custom_id", request.id);
    line.append("method", "POST");
    line.append("url", "/v1/chat/completions");
    Json& body = line.append("body", Json::object());
    body.append("model", call.model);
    body.append("temperature", 0);
    body.append("max_tokens", call.max_tokens);
    body.append("messages", Json::array()).push(std::move(message));
    lines += line.to_string() + "\n";
  }
  return lines;
}

std::map<std::string, Judgement> read_judgements(const std::string& path) {
  std::map<std::string, Judgement> judgements;
  const auto add = [&](const std::string& id, Judgement judgement) {
    if (!judgements.emplace(id, judgement).second)
      throw Error(kCode, judgement.where, "expected each answer once, got \"" + id + "\" again");
  };
  const std::string text = io::read_file(path, kCode);
  const std::string name = std::filesystem::path(path).stem().string();
  if (text.find("\"custom_id\"") != std::string::npos) {
    io::for_each_line(text, path, kCode, [&](const Json& line, int64_t number) {
      const std::string where = path + ":" + std::to_string(number);
      Judgement judgement{name, {}, where};
      const std::string id = io::require(line, "custom_id", Json::Kind::kString, path, kCode).as_string();
      const std::string* content = content_of(line, judgement.judge);
      if (content == nullptr) throw Error(kCode, where, "expected response.body.choices[0].message.content, got none");
      judgement.text = *content;
      add(id, std::move(judgement));
    });
  } else {
    io::for_each_member(text, path, kCode, [&](const std::string& id, const Json& value, int64_t number) {
      const std::string where = path + ":" + std::to_string(number);
      if (!value.is_string()) throw Error(kCode, where, "\"" + id + "\": expected the judge's words");
      add(id, {name, value.as_string(), where});
    });
  }
  return judgements;
}

}  // namespace vlmamba
