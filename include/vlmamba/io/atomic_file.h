#pragma once

#include <string>
#include <string_view>

#include "vlmamba/io/file_system.h"
#include "vlmamba/io/file_writer.h"

namespace vlmamba::io {

/// The bytes of a regular file. Throws Error(code) that names it.
std::string read_file(const std::string& path, ExitCode code);

/// Writes a file as a whole: beside it under a temporary name, synced, then renamed. Throws WriteError; whatever was
/// there before is then untouched and no temporary file is left.
void write_file_atomically(const std::string& path, std::string_view bytes);
void write_file_atomically(const std::string& path, const Content& content);

/// Gives what is finished its name, and makes that last. Throws WriteError.
void rename_synced(const std::string& from, const std::string& to);

}  // namespace vlmamba::io
