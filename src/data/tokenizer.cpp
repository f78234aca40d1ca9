#include "vlmamba/data/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "src/data/tokenizer/added_tokens.h"
#include "src/data/tokenizer/bpe.h"
#include "src/data/tokenizer/byte_level.h"
#include "src/data/tokenizer/unicode.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

using io::Json;
using unicode::Form;

constexpr size_t kMaxFile = 64u << 20;

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

const std::string& type_of(const Json& part, const std::string& where) {
  return io::require(part, "type", Json::Kind::kString, where, ExitCode::kWeights).as_string();
}

bool flag(const Json& part, const char* key, const std::string& where) {
  return io::require(part, key, Json::Kind::kBool, where, ExitCode::kWeights).as_bool();
}

const Json* present(const Json& json, const char* key) {
  const Json* part = json.find(key);
  return part && !part->is_null() ? part : nullptr;
}

void read_forms(const Json& normalizer, const std::string& where, std::vector<Form>& forms) {
  const std::string& type = type_of(normalizer, where);
  if (type == "Sequence") {
    for (const Json& part :
         io::require(normalizer, "normalizers", Json::Kind::kArray, where, ExitCode::kWeights).items())
      read_forms(part, where, forms);
    return;
  }
  for (const auto& [name, form] :
       {std::pair{"NFC", Form::kNfc}, {"NFD", Form::kNfd}, {"NFKC", Form::kNfkc}, {"NFKD", Form::kNfkd}})
    if (type == name) {
      forms.push_back(form);
      return;
    }
  refuse(where, "normalizer: expected NFC, NFD, NFKC, NFKD or null, got " + type);
}

}  // namespace

struct Tokenizer::Tables {
  std::string where, json_text;
  std::vector<Form> forms;
  bool prefix_space = false, use_pattern = true;
  Bpe bpe;
  std::vector<AddedToken> added;
  AddedTokenFinder raw, normalized;                      // which are looked for before and after the normalization
  std::unordered_map<int64_t, std::string> bytes_of_id;  // in decoded text
  std::unordered_map<int64_t, const AddedToken*> added_of_id;
  int64_t end_of_text = -1, padding = -1, size = 0;

  void read(const Json& json);
  void read_pre_tokenizer(const Json& pre);
  void read_added(const Json& tokens);
  std::string normal(std::string_view text) const;
  void encode_plain(std::string_view text, std::vector<int64_t>& ids) const;
};

void Tokenizer::Tables::read(const Json& json) {
  if (!json.is_object()) refuse(where, "expected an object, got " + std::string(io::kind_name(json.kind())));
  if (!json.find("model")) refuse(where, "expected a tokenizer.json, got an object without \"model\"");
  const Json& model = io::require(json, "model", Json::Kind::kObject, where, ExitCode::kWeights);
  bpe.read(model, where);
  if (const Json* normalizer = present(json, "normalizer")) read_forms(*normalizer, where, forms);
  read_pre_tokenizer(io::require(json, "pre_tokenizer", Json::Kind::kObject, where, ExitCode::kWeights));
  const Json& decoder = io::require(json, "decoder", Json::Kind::kObject, where, ExitCode::kWeights);
  if (type_of(decoder, where) != "ByteLevel")
    refuse(where, "decoder: expected ByteLevel, got " + type_of(decoder, where));
  for (const auto& [symbol, id] : bpe.vocabulary()) {
    bytes_of_id[id] = byte_level::bytes_of(symbol);
    size = std::max(size, id + 1);
  }
  if (present(json, "added_tokens"))
    read_added(io::require(json, "added_tokens", Json::Kind::kArray, where, ExitCode::kWeights));
}

void Tokenizer::Tables::read_pre_tokenizer(const Json& pre) {
  if (type_of(pre, where) != "ByteLevel")
    refuse(where, "pre_tokenizer: expected ByteLevel, got " + type_of(pre, where));
  prefix_space = flag(pre, "add_prefix_space", where);
  use_pattern = !present(pre, "use_regex") || flag(pre, "use_regex", where);
}

// HF gives a token the id that the vocabulary has for it, or else the next free one, whatever the file says.
void Tokenizer::Tables::read_added(const Json& tokens) {
  auto next_free = static_cast<int64_t>(bpe.vocabulary().size());
  std::unordered_map<std::string, int64_t> before;  // the same text again has the id that it had
  for (const Json& json : tokens.items()) {
    AddedToken token{io::require(json, "content", Json::Kind::kString, where, ExitCode::kWeights).as_string(),
                     io::require(json, "id", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer(),
                     flag(json, "special", where),
                     flag(json, "normalized", where),
                     flag(json, "single_word", where),
                     flag(json, "lstrip", where),
                     flag(json, "rstrip", where)};
    const std::string at = where + ":" + std::to_string(json.line);
    if (token.text.empty()) refuse(at, "added_tokens: expected a text, got an empty one");
    const int64_t known = bpe.find(token.text),
                  id = known >= 0 ? known : before.emplace(token.text, next_free).first->second;
    if (token.id != id)
      refuse(at, "added_tokens: \"" + token.text + "\": expected the id " + std::to_string(id) +
                     " that follows from the vocabulary, got " + std::to_string(token.id));
    if (bytes_of_id.contains(id) != (known >= 0) || !added_of_id.emplace(id, nullptr).second)
      refuse(at, "added_tokens: id " + std::to_string(id) + ": expected one token, got two");
    next_free = std::max(next_free, id + 1);
    added.push_back(std::move(token));
  }
  for (const AddedToken& token : added) {  // which stay where they are from now on
    added_of_id[token.id] = &token;
    const std::string text = token.normalized ? normal(token.text) : token.text;
    bytes_of_id[token.id] = byte_level::bytes_of(text);
    size = std::max(size, token.id + 1);
    (token.normalized ? normalized : raw).add(token, text);
    if (token.text == "<|endoftext|>") end_of_text = token.id;
    if (token.text == "<|padding|>") padding = token.id;
  }
}

std::string Tokenizer::Tables::normal(std::string_view text) const {
  std::string result(text);
  for (const Form form : forms) result = unicode::normalized(result, form);
  return result;
}

void Tokenizer::Tables::encode_plain(std::string_view text, std::vector<int64_t>& ids) const {
  std::string with_prefix;
  if (prefix_space && !text.starts_with(' ')) text = with_prefix.append(1, ' ').append(text);
  if (!use_pattern) return bpe.encode(text, ids);
  byte_level::PreTokenizer pieces(text);
  for (std::string_view piece; pieces.next(piece);) bpe.encode(piece, ids);
}

Tokenizer Tokenizer::load(const std::string& path) {
  const std::string file = std::filesystem::is_directory(path) ? path + "/tokenizer.json" : path;
  return parse(io::read_file(file, ExitCode::kWeights), file);
}

Tokenizer Tokenizer::parse(std::string text, const std::string& where) {
  auto tables = std::make_shared<Tables>();
  tables->where = where;
  tables->json_text = std::move(text);
  if (tables->json_text.size() > kMaxFile)
    refuse(where, "expected at most 64 MiB, got " + std::to_string(tables->json_text.size()) + " bytes");
  tables->read(io::parse_json(tables->json_text, where, ExitCode::kWeights));
  Tokenizer tokenizer;
  tokenizer.tables_ = std::move(tables);
  return tokenizer;
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool special) const {
  std::vector<int64_t> ids;
  const std::string valid = unicode::valid_utf8(text);
  for (const TextPart& part : tables_->raw.split(valid, !special)) {
    if (part.token) {
      ids.push_back(part.token->id);
      continue;
    }
    const std::string normal = tables_->normal(part.text);
    for (const TextPart& piece : tables_->normalized.split(normal, !special))
      if (piece.token)
        ids.push_back(piece.token->id);
      else
        tables_->encode_plain(piece.text, ids);
  }
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const int64_t id : ids) {
    const auto found = tables_->bytes_of_id.find(id);
    if (found == tables_->bytes_of_id.end()) continue;
    const auto token = tables_->added_of_id.find(id);
    const bool special = token != tables_->added_of_id.end() && token->second->special;
    // HF knows a special token by its text, which normalization may have changed.
    if (!skip_special || !special || found->second != byte_level::bytes_of(token->second->text)) bytes += found->second;
  }
  return unicode::valid_utf8(bytes);
}

int64_t Tokenizer::end_of_text_id() const {
  if (tables_->end_of_text < 0) refuse(tables_->where, "added_tokens: expected <|endoftext|>, got none");
  return tables_->end_of_text;
}
int64_t Tokenizer::pad_id() const { return tables_->padding >= 0 ? tables_->padding : end_of_text_id(); }
int64_t Tokenizer::vocab_size() const { return tables_->size; }
const std::string& Tokenizer::json_text() const { return tables_->json_text; }

}  // namespace vlmamba
