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
  double weight = 1;
  int64_t expected_records = 0;

  template <typename F>
  void visit(F& f) {
    f("name", name, "for logs and --set");
    f("records", records, "JSON file in LLaVA's layout; JSON lines where it is called .jsonl");
    f("image_root", image_root, "folder that the records' pictures lie below");
    f("weight", weight,
      "share of the set's records that an epoch holds: 0.5 is half of them, another half the next time; 2 is all twice",
      Range{1e-9});
    f("expected_records", expected_records,
      "records that the file holds, checked; lets a dry run plan without the file; 0: any number", Range{0});
  }
};

/// A record from its JSON. `where` names file and index. A leading turn of the model is dropped; an `image` of null or
/// "" is none. Throws Error (data).
Record parse_record(const io::Json& json, const std::string& where);

}  // namespace vlmamba
