#include "vlmamba/data/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <queue>
#include <unordered_map>

#include "vlmamba/core/error.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json.h"

namespace vlmamba {
namespace {

using io::Json;

constexpr size_t kMaxFile = 64u << 20;

struct AddedToken {
  std::string text;
  int64_t id;
  bool special, normalized;
};

struct PairHash {
  size_t operator()(uint64_t pair) const { return static_cast<size_t>(pair * 0x9e3779b97f4a7c15ull >> 7); }
};
struct MergeRule {
  int32_t rank;
  int32_t result;
};
uint64_t pair_of(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

std::string utf8(int32_t code_point) {
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto length = utf8proc_encode_char(code_point, bytes.data());
  return {reinterpret_cast<const char*>(bytes.data()), static_cast<size_t>(length)};
}

// GPT-2's map: printable bytes stand for themselves, the others for U+0100 and on.
std::array<std::string, 256> byte_symbols() {
  std::array<std::string, 256> symbols;
  int32_t next = 256;
  for (int32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae);
    symbols[static_cast<size_t>(byte)] = utf8(printable ? byte : next++);
  }
  return symbols;
}

// The length of the valid UTF-8 character at `at`, or 0 and in `invalid` that of the maximal invalid part.
size_t character_at(std::string_view text, size_t at, size_t& invalid) {
  const auto byte = [&](size_t i) { return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0; };
  const uint8_t lead = byte(0);
  invalid = 1;
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xc2 && lead <= 0xdf   ? 2
                        : lead >= 0xe0 && lead <= 0xef ? 3
                        : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                       : 0;
  if (length == 0) return 0;
  for (size_t i = 1; i < length; ++i) {
    uint8_t low = 0x80, high = 0xbf;
    if (i == 1) {
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    }
    if (byte(i) < low || byte(i) > high) {
      invalid = i;
      return 0;
    }
  }
  return length;
}

std::string valid_utf8(std::string_view text) {
  std::string valid;
  for (size_t at = 0; at < text.size();) {
    size_t invalid = 0;
    const size_t length = character_at(text, at, invalid);
    valid += length > 0 ? std::string(text.substr(at, length)) : "\xef\xbf\xbd";
    at += length > 0 ? length : invalid;
  }
  return valid;
}

std::string nfc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) return text;
  std::string normal(reinterpret_cast<const char*>(result), static_cast<size_t>(length));
  std::free(result);
  return normal;
}

enum class Class { kLetter, kNumber, kSpace, kOther };

Class class_of(int32_t c) {
  if (c == 0x85 || (c >= 9 && c <= 13)) return Class::kSpace;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return Class::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return Class::kNumber;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return Class::kSpace;
    default:
      return Class::kOther;
  }
}

struct Character {
  size_t begin;
  int32_t code;
  Class kind;
};

// GPT-2's pattern: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
class PreTokenizer {
 public:
  explicit PreTokenizer(std::string_view text) : text_(text) {
    for (size_t at = 0; at < text.size();) {
      int32_t code = 0;
      const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                                           static_cast<utf8proc_ssize_t>(text.size() - at), &code);
      characters_.push_back({at, code, class_of(code)});
      at += static_cast<size_t>(std::max<utf8proc_ssize_t>(length, 1));
    }
  }

  bool next(std::string_view& piece) {
    if (at_ >= characters_.size()) return false;
    const size_t begin = at_;
    at_ = end_of_piece();
    const size_t from = characters_[begin].begin, to = at_ < characters_.size() ? characters_[at_].begin : text_.size();
    piece = text_.substr(from, to - from);
    return true;
  }

 private:
  size_t run(size_t at, Class kind) const {
    while (at < characters_.size() && characters_[at].kind == kind) ++at;
    return at;
  }

  size_t end_of_piece() const {
    const auto& c = characters_[at_];
    if (c.code == '\'')
      for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
        if (text_.substr(c.begin, suffix.size()) == suffix) return at_ + suffix.size();
    const bool space_first =
        c.code == ' ' && at_ + 1 < characters_.size() && characters_[at_ + 1].kind != Class::kSpace;
    const size_t first = at_ + (space_first ? 1 : 0);
    if (characters_[first].kind != Class::kSpace) return run(first, characters_[first].kind);
    const size_t end = run(at_, Class::kSpace);
    return end < characters_.size() && end - at_ > 1 ? end - 1 : end;  // the last space goes with what follows
  }

  std::string_view text_;
  std::vector<Character> characters_;
  size_t at_ = 0;
};

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

}  // namespace

struct Tokenizer::Tables {
  std::string json_text;
  std::unordered_map<std::string, int64_t> ids;  // of the vocabulary
  std::vector<std::string> symbols;              // by id, in GPT-2's byte alphabet; empty where there is none
  std::unordered_map<uint64_t, MergeRule, PairHash> merges;
  std::array<int64_t, 256> byte_ids;
  std::unordered_map<std::string, uint8_t> symbol_bytes;
  std::vector<AddedToken> added;
  bool normalize_nfc = false;
  int64_t end_of_text = -1, padding = -1, size = 0;

  const AddedToken* added_at(int64_t id) const {
    for (const auto& token : added)
      if (token.id == id) return &token;
    return nullptr;
  }

  void read(const Json& json, const std::string& where);
  void read_model(const Json& model, const std::string& where);
  void read_added(const Json& tokens, const std::string& where);
  void encode_word(std::string_view word, std::vector<int64_t>& out) const;
  void encode_plain(std::string_view text, std::vector<int64_t>& out) const;
  // Calls plain(text) and token(id) for the parts of `text`, split on the added tokens that `use` accepts,
  // leftmost-longest.
  template <typename Use, typename Plain>
  void split(std::string_view text, const Use& use, const Plain& plain, std::vector<int64_t>& out) const;
};

void Tokenizer::Tables::read(const Json& json, const std::string& where) {
  const auto object = [&](const char* key) -> const Json& {
    return io::require(json, key, Json::Kind::kObject, where, ExitCode::kWeights);
  };
  const auto type_of = [&](const Json& part) {
    return io::require(part, "type", Json::Kind::kString, where, ExitCode::kWeights).as_string();
  };
  if (const Json* normalizer = json.find("normalizer"); normalizer && !normalizer->is_null()) {
    if (type_of(*normalizer) != "NFC") refuse(where, "normalizer: expected NFC or null, got " + type_of(*normalizer));
    normalize_nfc = true;
  }
  const Json& pre = object("pre_tokenizer");
  if (type_of(pre) != "ByteLevel") refuse(where, "pre_tokenizer: expected ByteLevel, got " + type_of(pre));
  if (const Json* prefix = pre.find("add_prefix_space"); prefix && prefix->is_bool() && prefix->as_bool())
    refuse(where, "pre_tokenizer.add_prefix_space: expected false, got true");
  read_model(object("model"), where);
  read_added(io::require(json, "added_tokens", Json::Kind::kArray, where, ExitCode::kWeights), where);
  if (end_of_text < 0) refuse(where, "added_tokens: expected <|endoftext|>, got none");
}

void Tokenizer::Tables::read_model(const Json& model, const std::string& where) {
  const auto& type = io::require(model, "type", Json::Kind::kString, where, ExitCode::kWeights).as_string();
  if (type != "BPE") refuse(where, "model.type: expected BPE, got " + type);
  const Json& vocab = io::require(model, "vocab", Json::Kind::kObject, where, ExitCode::kWeights);
  constexpr int64_t kMaxId = 1 << 24;
  for (const auto& [symbol, id] : vocab.members()) {
    if (!id.is_integer() || id.as_integer() < 0 || id.as_integer() >= kMaxId)
      refuse(where, "model.vocab: \"" + symbol + "\": expected an id of 0 to 2^24, got " + id.to_string());
    const auto at = static_cast<size_t>(id.as_integer());
    if (at >= symbols.size()) symbols.resize(at + 1);
    if (!symbols[at].empty()) refuse(where, "model.vocab: id " + std::to_string(at) + ": expected one symbol, got two");
    symbols[at] = symbol;
    ids[symbol] = id.as_integer();
  }
  size = static_cast<int64_t>(symbols.size());
  const auto bytes = byte_symbols();
  for (size_t byte = 0; byte < 256; ++byte) {
    symbol_bytes[bytes[byte]] = static_cast<uint8_t>(byte);
    const auto found = ids.find(bytes[byte]);
    byte_ids[byte] = found == ids.end() ? -1 : found->second;
  }
  int32_t rank = 0;
  for (const Json& merge : io::require(model, "merges", Json::Kind::kArray, where, ExitCode::kWeights).items()) {
    std::string left, right;
    if (merge.is_string()) {
      const auto space = merge.as_string().find(' ');
      if (space != std::string::npos)
        left = merge.as_string().substr(0, space), right = merge.as_string().substr(space + 1);
    } else if (merge.is_array() && merge.items().size() == 2 && merge.items()[0].is_string() &&
               merge.items()[1].is_string()) {
      left = merge.items()[0].as_string(), right = merge.items()[1].as_string();
    }
    const auto l = ids.find(left), r = ids.find(right), joined = ids.find(left + right);
    if (l == ids.end() || r == ids.end() || joined == ids.end())
      refuse(where + ":" + std::to_string(merge.line),
             "model.merges: expected two symbols of the vocabulary whose join is one, got " + merge.to_string());
    merges.emplace(pair_of(l->second, r->second), MergeRule{rank++, static_cast<int32_t>(joined->second)});
  }
}

void Tokenizer::Tables::read_added(const Json& tokens, const std::string& where) {
  for (const Json& token : tokens.items()) {
    const auto flag = [&](const char* key) {
      return io::require(token, key, Json::Kind::kBool, where, ExitCode::kWeights).as_bool();
    };
    AddedToken added_token{io::require(token, "content", Json::Kind::kString, where, ExitCode::kWeights).as_string(),
                           io::require(token, "id", Json::Kind::kInteger, where, ExitCode::kWeights).as_integer(),
                           flag("special"), flag("normalized")};
    if (added_token.text.empty() || added_token.id < 0)
      refuse(where, "added_tokens: expected a text and an id, got " + token.to_string());
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      if (flag(key)) refuse(where, std::string("added_tokens.") + key + ": expected false, got true");
    if (added_token.text == "<|endoftext|>") end_of_text = added_token.id;
    if (added_token.text == "<|padding|>") padding = added_token.id;
    size = std::max(size, added_token.id + 1);
    added.push_back(std::move(added_token));
  }
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.text.size() > b.text.size(); });
}

// Merges the best-ranked pair until none is left, leftmost first; a heap keeps long words quick.
void Tokenizer::Tables::encode_word(std::string_view word, std::vector<int64_t>& out) const {
  struct Symbol {
    int64_t id;
    int previous, next;
  };
  struct Candidate {
    int32_t rank;
    int left;
    uint64_t pair;
    int32_t result;
    bool operator>(const Candidate& other) const { return std::pair(rank, left) > std::pair(other.rank, other.left); }
  };
  std::vector<Symbol> chain;
  for (const char byte : word)
    if (const int64_t id = byte_ids[static_cast<uint8_t>(byte)]; id >= 0) {
      const int at = static_cast<int>(chain.size());
      chain.push_back({id, at - 1, at + 1});
    }
  if (!chain.empty()) chain.back().next = -1;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](int left) {
    if (left < 0 || chain[static_cast<size_t>(left)].next < 0) return;
    const auto pair = pair_of(chain[static_cast<size_t>(left)].id,
                              chain[static_cast<size_t>(chain[static_cast<size_t>(left)].next)].id);
    if (const auto rule = merges.find(pair); rule != merges.end())
      queue.push({rule->second.rank, left, pair, rule->second.result});
  };
  for (int i = 0; i < static_cast<int>(chain.size()); ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = chain[static_cast<size_t>(best.left)];
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = chain[static_cast<size_t>(left.next)];
    if (pair_of(left.id, right.id) != best.pair) continue;  // one of them has merged since
    left.id = best.result;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) chain[static_cast<size_t>(left.next)].previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (int i = chain.empty() ? -1 : 0; i >= 0; i = chain[static_cast<size_t>(i)].next)
    out.push_back(chain[static_cast<size_t>(i)].id);
}

void Tokenizer::Tables::encode_plain(std::string_view text, std::vector<int64_t>& out) const {
  PreTokenizer pieces(text);
  for (std::string_view piece; pieces.next(piece);) encode_word(piece, out);
}

template <typename Use, typename Plain>
void Tokenizer::Tables::split(std::string_view text, const Use& use, const Plain& plain,
                              std::vector<int64_t>& out) const {
  size_t plain_begin = 0;
  for (size_t at = 0; at < text.size();) {
    const auto found = std::find_if(added.begin(), added.end(), [&](const AddedToken& token) {
      return use(token) && text.substr(at, token.text.size()) == token.text;
    });
    if (found == added.end()) {
      ++at;
      continue;
    }
    if (at > plain_begin) plain(text.substr(plain_begin, at - plain_begin));
    out.push_back(found->id);
    plain_begin = at += found->text.size();
  }
  if (plain_begin < text.size()) plain(text.substr(plain_begin));
}

Tokenizer Tokenizer::load(const std::string& path) {
  const std::string file = std::filesystem::is_directory(path) ? path + "/tokenizer.json" : path;
  auto tables = std::make_shared<Tables>();
  tables->json_text = io::read_file(file, ExitCode::kWeights);
  if (tables->json_text.size() > kMaxFile)
    refuse(file, "expected at most 64 MiB, got " + std::to_string(tables->json_text.size()) + " bytes");
  tables->read(io::parse_json(tables->json_text, file, ExitCode::kWeights), file);
  Tokenizer tokenizer;
  tokenizer.tables_ = std::move(tables);
  return tokenizer;
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, bool special) const {
  std::vector<int64_t> ids;
  const auto raw = [&](const AddedToken& token) { return !token.normalized && (special || !token.special); };
  const auto normal = [&](const AddedToken& token) { return token.normalized && (special || !token.special); };
  tables_->split(
      valid_utf8(text), raw,
      [&](std::string_view part) {
        const std::string normalized = tables_->normalize_nfc ? nfc(std::string(part)) : std::string(part);
        tables_->split(
            normalized, normal, [&](std::string_view plain) { tables_->encode_plain(plain, ids); }, ids);
      },
      ids);
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const int64_t id : ids) {
    if (const AddedToken* token = tables_->added_at(id)) {
      if (!(token->special && skip_special)) bytes += token->text;
      continue;
    }
    if (id < 0 || static_cast<size_t>(id) >= tables_->symbols.size()) continue;
    const std::string_view symbol = tables_->symbols[static_cast<size_t>(id)];
    for (size_t at = 0; at < symbol.size();) {
      size_t invalid = 0;
      const size_t length = std::max<size_t>(character_at(symbol, at, invalid), 1);
      const auto byte = tables_->symbol_bytes.find(std::string(symbol.substr(at, length)));
      if (byte != tables_->symbol_bytes.end()) bytes += static_cast<char>(byte->second);
      at += length;
    }
  }
  return valid_utf8(bytes);
}

int64_t Tokenizer::end_of_text_id() const { return tables_->end_of_text; }
int64_t Tokenizer::pad_id() const { return tables_->padding >= 0 ? tables_->padding : tables_->end_of_text; }
int64_t Tokenizer::vocab_size() const { return tables_->size; }
const std::string& Tokenizer::json_text() const { return tables_->json_text; }

}  // namespace vlmamba
