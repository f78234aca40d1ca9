#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vlmamba/core/fields.h"
#include "vlmamba/io/json.h"

namespace vlmamba {

struct Turn {
  bool human;
  std::string text;
};

/// One record in LLaVA's layout. The first turn is human's; a picture's place is `<image>`.
struct Record {
  std::string id;
  std::vector<std::string> images;  ///< paths below the set's image_root
  std::vector<Turn> turns;
  size_t source = 0;  ///< index of the set
};

struct RecordSetConfig {
  std::string name;
  std::string records;
  std::string image_root;

  template <typename F>
  void visit(F& f) {
    f("name", name, "for logs and --set");
    f("records", records, "JSON file in LLaVA's layout");
    f("image_root", image_root, "folder that the records' pictures lie below");
  }
};

/// A record from its JSON. `where` names file and index. A leading turn of the model is dropped. Throws Error (data).
Record parse_record(const io::Json& json, const std::string& where);

/// All records of a file. Throws Error (data) for the first record that is malformed.
std::vector<Record> read_records(const std::string& path, size_t source = 0);

}  // namespace vlmamba
