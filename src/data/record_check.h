#pragma once

#include <cstdint>

#include "vlmamba/data/data_check.h"

namespace vlmamba {

/// All that one record suffers from, but for an id that occurred before. Safe to call from many threads.
RecordReport check_record(const DataChecker& checker, const io::Json& json, int64_t index);

}  // namespace vlmamba
