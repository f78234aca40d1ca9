#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// Text as Python's str sees it, where the official scripts rely on that. All texts are UTF-8.
namespace vlmamba::unicode {

/// str.lower(): by code point, with the capital I with dot above and the final sigma.
std::string lower(std::string_view text);

/// str.strip() and str.split(): white space is str.isspace()'s, which knows the no-break space.
std::string_view strip(std::string_view text);
std::vector<std::string_view> split(std::string_view text);

/// len(): code points.
int64_t length(std::string_view text);

/// Does a decimal digit of any script (\d) start at byte `at`? False at the end.
bool digit_at(std::string_view text, size_t at);
/// Does one end just before byte `at`?
bool digit_before(std::string_view text, size_t at);

/// str.replace(). `from` is not empty.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace vlmamba::unicode
