#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vlmamba/data/prompt.h"
#include "vlmamba/data/records.h"
#include "vlmamba/data/tokenizer.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

enum class Severity { kError, kWarning };

/// Something that a record may suffer from. An error makes the record unusable.
struct DataCode {
  std::string_view name;
  Severity severity;
  std::string_view meaning;
};
/// Every code, in the order in which they are documented.
const std::vector<DataCode>& data_codes();

/// What was found in one record. Codes are sorted; sizes are those of the training sample before it is cut.
struct RecordReport {
  struct Picture {
    std::string format;  ///< by content: JPEG, PNG, WEBP, GIF
    int width, height;
  };
  int64_t index = 0;
  io::Json id;
  bool usable = false, has_picture = false;
  int64_t turns_used = 0;
  std::optional<Picture> picture;
  int64_t tokens = 0;     ///< a picture counts as one
  int64_t labelled = 0;   ///< of them with a loss
  int64_t positions = 0;  ///< a picture counts as tokens_per_image
  std::vector<std::string> codes;
};

struct DataReport {
  int64_t usable = 0;
  std::map<std::string, int64_t> code_counts;
  std::vector<RecordReport> records;

  bool has_errors() const { return usable < static_cast<int64_t>(records.size()); }
  /// {records, usable, code_counts, report: [...]}.
  io::Json to_json() const;
};

/// Finds every problem of a record set in one pass: reads every record and decodes every picture, and never stops at
/// one. The template `plain` adds what LLaVA's first stage needs of a record.
struct DataChecker {
  const Tokenizer& tokenizer;
  PromptConfig prompt;
  std::string image_root;
  int64_t tokens_per_image, max_length;
  int64_t threads = 1;

  /// Throws Error (data) for a file that is neither an array of JSON values nor, called `.jsonl`, one a line.
  DataReport check(const std::string& path) const;
};

/// How many records lie below each folder of LLaVA-1.5's mix of 665K records, and how many should.
struct CompositionRow {
  std::string part;
  int64_t expected, found;
};
std::vector<CompositionRow> mix665k_composition(const std::string& path);

}  // namespace vlmamba
