#pragma once

namespace vlmamba::study {

/// The style sheet of a report: light and dark, screen and paper.
extern const char* const kPageStyle;

}  // namespace vlmamba::study
