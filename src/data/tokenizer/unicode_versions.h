#pragma once

#include <cstdint>

namespace vlmamba::unicode {

/// Whether HF's normalizer knows the code point; it leaves the others where they are, and nothing moves past them.
bool is_normalized(int32_t code_point);

/// Letters and numbers that HF's pre-tokenizer knows and utf8proc does not.
bool is_new_letter(int32_t code_point);
bool is_new_number(int32_t code_point);

}  // namespace vlmamba::unicode
