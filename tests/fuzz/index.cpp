// The index of sharded safetensors, read from memory; one that names the two good shards of a folder alone is written
// there too, and the folder opened.

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/fuzz/target.h"
#include "vlmamba/io/weights/safetensors.h"
#include "vlmamba/io/weights/shard_index.h"
#include "vlmamba/io/weights/weight_files.h"

using namespace vlmamba;

namespace {

std::string make_folder() {
  const auto folder = std::filesystem::temp_directory_path() / ("vlmamba-fuzz-index-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const float values[4] = {1, 2, 3, 4};
  for (const std::string name : {"a", "b"})
    std::ofstream(folder / (name + ".safetensors"), std::ios::binary)
        << io::to_safetensors({{name, "F32", {2, 2}, values, sizeof values}}, {});
  std::atexit([] {
    std::error_code ignored;
    std::filesystem::remove_all(
        std::filesystem::temp_directory_path() / ("vlmamba-fuzz-index-" + std::to_string(::getpid())), ignored);
  });
  return folder.string();
}

// Few inputs get here: a file each would be slow.
void open_folder(std::string_view index) {
  static const std::string folder = make_folder();
  std::ofstream(folder + "/model.safetensors.index.json", std::ios::binary) << index;
  const io::WeightFiles files(folder);
  fuzz::require(files.tensors().size() <= 2);  // an index may leave a shard out
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto index = io::parse_shard_index(fuzz::text_of(data, size), "input");
    bool ours = true;
    for (const auto& [shard, tensors] : index.shards) {
      fuzz::require(!tensors.empty() && !shard.empty() && shard.find('/') == std::string::npos && shard != "..");
      ours = ours && (shard == "a.safetensors" || shard == "b.safetensors");
    }
    if (ours) open_folder(fuzz::text_of(data, size));
  });
  return 0;
}
