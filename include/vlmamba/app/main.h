#pragma once

#include "vlmamba/app/extensions.h"

namespace vlmamba::app {

/// The whole program: reads the command line, runs a subcommand, and turns errors into messages and exit codes
/// (core/error.h).
int main(int argc, char** argv, const Extensions& extensions = {});

}  // namespace vlmamba::app
