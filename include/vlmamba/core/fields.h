#pragma once

#include <array>
#include <limits>
#include <string_view>

namespace vlmamba {

/// Whether a bound itself is allowed.
enum class Bound { kIncluded, kExcluded };

/// How configs describe themselves. A config is a plain struct with defaults and one
///
///     template <typename F> void visit(F& f) {
///       f("learning_rate", learning_rate, "peak learning rate", Range{0, 1});
///       f("scan", scan, "order in which the patches are scanned");
///     }
///
/// Members may be bool, int64_t, double, std::string, an enum with `enum_names`, another config, std::vector,
/// std::optional or std::map<std::string, T> of these. Reading, writing, diff, --set, help and the reference of
/// all keys derive from it.
struct Range {
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
  Bound most_is = Bound::kIncluded;
};

/// What no model that anyone builds exceeds: a mistyped size is refused before memory is asked for.
constexpr double kMostLayers = 1e4, kMostChannels = 1 << 20, kMostIds = 1 << 24, kMostPixels = 1 << 14;

/// One spelling of an enum value. An enum E used in a config has, in its namespace,
/// `constexpr auto enum_names(E) { return std::array{EnumName<E>{E::kA, "a"}, ...}; }`.
template <typename E>
struct EnumName {
  E value;
  std::string_view name;
};

template <typename E>
std::string_view enum_name(E value) {
  for (const auto& entry : enum_names(E{}))
    if (entry.value == value) return entry.name;
  return "?";
}

}  // namespace vlmamba
