#pragma once

#include <map>
#include <string>

#include "vlmamba/eval/task.h"
#include "vlmamba/model/connector.h"

namespace vlmamba {

/// What a program of one's own adds: every subcommand then knows these names. Factories read their own section
/// strictly: `io::from_json<MyConfig>(config.options, "model.connector.options")`.
struct Extensions {
  std::map<std::string, ConnectorFactory> connectors;
  std::map<std::string, TaskFactory> tasks;
};

}  // namespace vlmamba
