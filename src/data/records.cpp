#include "vlmamba/data/records.h"

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using io::Json;

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kData, where, message);
}

std::vector<std::string> images_of(const Json& json, const std::string& where) {
  const Json* image = json.find("image");
  if (image == nullptr || image->is_null()) return {};
  if (image->is_string() && image->as_string().empty()) return {};
  if (image->is_string()) return {image->as_string()};
  std::vector<std::string> paths;
  if (image->is_array())
    for (const Json& path : image->items())
      if (path.is_string() && !path.as_string().empty()) paths.push_back(path.as_string());
  if (paths.empty() || paths.size() != image->items().size())
    refuse(where, "image: expected a path or an array of paths, got " + image->to_string().substr(0, 80));
  return paths;
}

Turn turn_of(const Json& json, const std::string& where) {
  const auto& from = io::require(json, "from", Json::Kind::kString, where, ExitCode::kData).as_string();
  const auto& value = io::require(json, "value", Json::Kind::kString, where, ExitCode::kData).as_string();
  if (from != "human" && from != "gpt") refuse(where, "from: expected human or gpt, got \"" + from + "\"");
  return {from == "human", value};
}

}  // namespace

Record parse_record(const Json& json, const std::string& where) {
  if (!json.is_object()) refuse(where, "expected an object, got " + std::string(io::kind_name(json.kind())));
  Record record;
  const Json* id = json.find("id");
  if (id && !id->is_string() && !id->is_integer())
    refuse(where, "id: expected a string or an integer, got " + id->to_string().substr(0, 80));
  record.id = id ? (id->is_string() ? id->as_string() : id->to_string()) : where;
  const std::string named = where + ", id " + record.id;
  record.images = images_of(json, named);
  for (const Json& turn : io::require(json, "conversations", Json::Kind::kArray, named, ExitCode::kData).items())
    record.turns.push_back(turn_of(turn, named));
  if (!record.turns.empty() && !record.turns.front().human) record.turns.erase(record.turns.begin());
  if (record.turns.empty()) refuse(named, "conversations: expected a question and an answer, got none");
  for (size_t i = 0; i < record.turns.size(); ++i)
    if (record.turns[i].human != (i % 2 == 0))
      refuse(named, "conversations: expected human and gpt in turn, got " +
                        std::string(record.turns[i].human ? "human" : "gpt") + " at turn " + std::to_string(i));
  return record;
}

}  // namespace vlmamba
