#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace vlmamba::io {

/// A sheet of an Office Open XML workbook (.xlsx). The first row is the header; `numbers` names the columns whose
/// fields are written as numbers, everything else is inline text. Empty fields are empty cells. The same table gives
/// the same bytes.
std::string to_xlsx(const std::vector<std::vector<std::string>>& rows, const std::vector<std::string>& numbers);

}  // namespace vlmamba::io
