#include "src/data/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <unordered_set>

#include "src/data/tokenizer/byte_level.h"
#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

using io::Json;

constexpr int64_t kMaxId = (int64_t{1} << 31) - 1;

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kWeights, where, message);
}

uint64_t pair_of(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

bool is_set(const Json* option) {
  if (option == nullptr || option->is_null()) return false;
  if (option->is_bool()) return option->as_bool();
  if (option->is_string()) return !option->as_string().empty();
  return !option->is_number() || option->as_number() != 0;
}

// The two symbols of "a b" or ["a", "b"]; empty for anything else.
std::pair<std::string, std::string> sides(const Json& merge) {
  if (merge.is_array() && merge.items().size() == 2 && merge.items()[0].is_string() && merge.items()[1].is_string())
    return {merge.items()[0].as_string(), merge.items()[1].as_string()};
  const std::string& text = merge.as_string();
  const auto space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return {};
  return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

void Bpe::read(const Json& model, const std::string& where) {
  if (const Json* type = model.find("type"); type && !(type->is_string() && type->as_string() == "BPE"))
    refuse(where, "model.type: expected BPE (byte-level, as GPT-2 and GPT-NeoX), got " + type->to_string());
  refuse_options(model, where);
  read_vocabulary(io::require(model, "vocab", Json::Kind::kObject, where, ExitCode::kWeights), where);
  read_merges(io::require(model, "merges", Json::Kind::kArray, where, ExitCode::kWeights), where);
  const Json* unknown = model.find("unk_token");
  if (!is_set(unknown)) return;
  unknown_ = unknown->is_string() ? find(unknown->as_string()) : -1;
  if (unknown_ < 0) refuse(where, "model.unk_token: expected a symbol of the vocabulary, got " + unknown->to_string());
}

void Bpe::refuse_options(const Json& model, const std::string& where) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"})
    if (const Json* option = model.find(key); is_set(option))
      refuse(where, std::string("model.") + key + ": expected none, got " + option->to_string());
  fuse_unknown_ = is_set(model.find("fuse_unk"));
  whole_words_ = is_set(model.find("ignore_merges"));
}

void Bpe::read_vocabulary(const Json& vocabulary, const std::string& where) {
  std::unordered_set<int64_t> taken;
  for (const auto& [symbol, id] : vocabulary.members()) {
    if (!id.is_integer() || id.as_integer() < 0 || id.as_integer() > kMaxId)
      refuse(where, "model.vocab: \"" + symbol + "\": expected an id of 0 to 2^31 - 1, got " + id.to_string());
    if (!taken.insert(id.as_integer()).second)
      refuse(where, "model.vocab: id " + id.to_string() + ": expected one symbol, got two");
    vocabulary_[symbol] = id.as_integer();
  }
  for (size_t byte = 0; byte < 256; ++byte) byte_ids_[byte] = find(byte_level::symbol_of(static_cast<uint8_t>(byte)));
}

void Bpe::read_merges(const Json& merges, const std::string& where) {
  int32_t rank = 0;
  for (const Json& merge : merges.items()) {
    const auto [left, right] = sides(merge);
    const int64_t l = find(left), r = find(right), joined = find(left + right);
    if (left.empty() || right.empty() || l < 0 || r < 0 || joined < 0)
      refuse(where + ":" + std::to_string(merge.line),
             "model.merges: expected two symbols of the vocabulary whose join is one, got " + merge.to_string());
    merges_[pair_of(l, r)] = {rank++, static_cast<int32_t>(joined)};  // of equal pairs HF keeps the last
  }
}

int64_t Bpe::find(const std::string& symbol) const {
  const auto found = vocabulary_.find(symbol);
  return found == vocabulary_.end() ? -1 : found->second;
}

const Bpe::Merge* Bpe::merge_of(int64_t left, int64_t right) const {
  const auto found = merges_.find(pair_of(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

// A byte without a symbol is the unknown token, or left out where there is none, as HF does.
std::vector<Bpe::Symbol> Bpe::chain_of(std::string_view word) const {
  std::vector<Symbol> chain;
  chain.reserve(word.size());
  bool after_unknown = false;
  for (const char byte : word) {
    int64_t id = byte_ids_[static_cast<uint8_t>(byte)];
    const bool is_unknown = id < 0;
    if (is_unknown) id = fuse_unknown_ && after_unknown ? -1 : unknown_;
    after_unknown = is_unknown;
    if (id < 0) continue;
    const auto at = static_cast<int64_t>(chain.size());
    chain.push_back({id, at - 1, at + 1});
  }
  if (!chain.empty()) chain.back().next = -1;
  return chain;
}

void Bpe::merge_all(std::vector<Symbol>& chain) const {
  struct Candidate {
    int32_t rank, result;
    int64_t left;
    uint64_t pair;
    bool operator>(const Candidate& other) const { return std::pair(rank, left) > std::pair(other.rank, other.left); }
  };
  std::vector<Candidate> heap;  // the best first
  const auto at = [&](int64_t place) -> Symbol& { return chain[static_cast<size_t>(place)]; };
  const auto found = [&](int64_t left) {
    if (left < 0 || at(left).next < 0) return false;
    const int64_t a = at(left).id, b = at(at(left).next).id;
    const Merge* merge = merge_of(a, b);
    if (merge) heap.push_back({merge->rank, merge->result, left, pair_of(a, b)});
    return merge != nullptr;
  };
  for (size_t i = 0; i < chain.size(); ++i) found(static_cast<int64_t>(i));
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Candidate best = heap.back();
    heap.pop_back();
    Symbol& left = at(best.left);
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    if (pair_of(left.id, right.id) != best.pair) continue;  // one of them has merged since
    left.id = best.result;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) at(left.next).previous = best.left;
    for (const int64_t place : {left.previous, best.left})
      if (found(place)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  }
}

void Bpe::encode(std::string_view word, std::vector<int64_t>& ids) const {
  if (whole_words_) {
    std::string symbols;
    for (const char byte : word) symbols += byte_level::symbol_of(static_cast<uint8_t>(byte));
    if (const int64_t whole = find(symbols); whole >= 0) {
      ids.push_back(whole);
      return;
    }
  }
  auto chain = chain_of(word);
  merge_all(chain);
  for (int64_t i = chain.empty() ? -1 : 0; i >= 0; i = chain[static_cast<size_t>(i)].next)
    ids.push_back(chain[static_cast<size_t>(i)].id);
}

}  // namespace vlmamba
