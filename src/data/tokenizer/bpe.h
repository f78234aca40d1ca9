#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "vlmamba/io/json.h"

namespace vlmamba {

/// Byte-pair encoding over GPT-2's byte symbols: the `model` of a tokenizer.json.
class Bpe {
 public:
  /// Throws Error (weights) for another model, ids that are no ids, and merges of unknown symbols.
  void read(const io::Json& model, const std::string& where);

  /// Appends the ids of one word's bytes: merges the best-ranked pair until none is left, leftmost first. Time n log n.
  void encode(std::string_view word, std::vector<int64_t>& ids) const;

  /// The id of a symbol, or -1.
  int64_t find(const std::string& symbol) const;
  const std::unordered_map<std::string, int64_t>& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank, result;
  };
  struct Hash {
    size_t operator()(uint64_t pair) const { return static_cast<size_t>(pair * 0x9e3779b97f4a7c15ull >> 20); }
  };
  struct Symbol {
    int64_t id;
    int64_t previous, next;  // places in the chain, -1 at its ends
  };
  void read_vocabulary(const io::Json& vocabulary, const std::string& where);
  void read_merges(const io::Json& merges, const std::string& where);
  void refuse_options(const io::Json& model, const std::string& where);
  const Merge* merge_of(int64_t left, int64_t right) const;
  std::vector<Symbol> chain_of(std::string_view word) const;
  void merge_all(std::vector<Symbol>& chain) const;

  std::unordered_map<std::string, int64_t> vocabulary_;
  std::unordered_map<uint64_t, Merge, Hash> merges_;
  std::array<int64_t, 256> byte_ids_{};
  int64_t unknown_ = -1;
  bool fuse_unknown_ = false, whole_words_ = false;
};

}  // namespace vlmamba
