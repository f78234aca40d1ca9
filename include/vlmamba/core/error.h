#pragma once

#include <stdexcept>
#include <string>

namespace vlmamba {

/// What the program returns to its shell.
enum class ExitCode {
  kOk = 0,
  kInternal = 1,
  kUsage = 2,      ///< command line or config
  kData = 3,       ///< records, pictures
  kWeights = 4,    ///< weights, checkpoint, tokenizer
  kNonFinite = 5,  ///< NaN or infinity in loss or gradients
  kIo = 6,         ///< disk full, permissions
  kPeerLost = 7,
  kPreempted = 75,  ///< stopped in good order: resume me
};

/// The one error of bad input. The message reads `[where] what: expected ..., got ...` and may be followed by lines
/// that say what to do; `where` is a file, key, sample or tensor in the user's words.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& where, const std::string& message)
      : std::runtime_error("[" + where + "] " + message), code_(code) {}
  /// A message that is complete already, e.g. several errors of one file, a line each.
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

}  // namespace vlmamba
