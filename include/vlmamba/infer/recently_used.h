#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>

namespace vlmamba {

/// Values by name, up to so many bytes: those used longest ago leave first. The newest stays, however large.
template <typename Value>
class RecentlyUsed {
 public:
  explicit RecentlyUsed(int64_t most_bytes) : most_bytes_(most_bytes) {}

  /// Null where there is none. Valid until the next insertion.
  const Value* find(const std::string& name) {
    const auto found = places_.find(name);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->value;
  }

  void insert(const std::string& name, Value value, int64_t bytes) {
    if (const auto found = places_.find(name); found != places_.end()) remove(found->second);
    entries_.push_front({name, std::move(value), bytes});
    places_[name] = entries_.begin();
    bytes_ += bytes;
    while (bytes_ > most_bytes_ && entries_.size() > 1) remove(std::prev(entries_.end()));
  }

  int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string name;
    Value value;
    int64_t bytes;
  };
  using Place = typename std::list<Entry>::iterator;

  void remove(Place place) {
    bytes_ -= place->bytes;
    places_.erase(place->name);
    entries_.erase(place);
  }

  int64_t most_bytes_, bytes_ = 0;
  std::list<Entry> entries_;  // the latest used first
  std::unordered_map<std::string, Place> places_;
};

}  // namespace vlmamba
