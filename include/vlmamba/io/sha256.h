#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "vlmamba/io/mapped_file.h"

namespace vlmamba::io {

/// SHA-256 of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(std::string_view bytes);
  /// In hexadecimal. Nothing can be added then.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// SHA-256 in hexadecimal.
std::string sha256(std::string_view bytes);
/// The same of a file's bytes; pages are given back as they are read.
std::string sha256(const MappedFile& file);

}  // namespace vlmamba::io
