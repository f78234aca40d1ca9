#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "vlmamba/io/json.h"

/// Large JSON files, one element at a time: memory for the text and for a single value, not for a tree of all.
namespace vlmamba::io {

/// A value and the line of its file that it starts on.
using EachValue = std::function<void(const Json& value, int64_t line)>;
using EachMember = std::function<void(const std::string& key, const Json& value, int64_t line)>;

/// Values of JSON lines; blank lines are passed over, a byte order mark and carriage returns too. Errors, here and
/// below: Error(code) that names `where`:line:column.
void for_each_line(std::string_view text, const std::string& where, ExitCode code, const EachValue& each);

/// Elements of an array: of the text's own, or for a `key` of the one that this member of the text's object holds.
void for_each_element(std::string_view text, std::string_view key, const std::string& where, ExitCode code,
                      const EachValue& each);

/// The same for the elements of the text's own array, as text: where a value begins and ends is found by brackets and
/// quotes alone, and what is between is for the caller to parse. `text` of more than 16 MiB that is no array is
/// described by the place where that shows, not by what is wrong there.
using EachText = std::function<void(std::string_view value, int64_t line)>;
void for_each_element_text(std::string_view text, const std::string& where, ExitCode code, const EachText& each);
/// Lines of JSON lines that are not blank, in the same way.
void for_each_line_text(std::string_view text, const EachText& each);

/// Members of the text's object, in their order. A key may come twice: that is for the caller to judge.
void for_each_member(std::string_view text, const std::string& where, ExitCode code, const EachMember& each);

/// Without a UTF-8 byte order mark at its start.
std::string_view without_mark(std::string_view text);

}  // namespace vlmamba::io
