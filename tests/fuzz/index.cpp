// The index of sharded safetensors: beside two good shards, the input is the index.

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/fuzz/target.h"
#include "vlmamba/io/weights/safetensors.h"
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string folder = make_folder();
  std::ofstream(folder + "/model.safetensors.index.json", std::ios::binary) << fuzz::text_of(data, size);
  fuzz::refuse_or_accept([&] {
    const io::WeightFiles files(folder);
    fuzz::require(files.tensors().size() <= 2);  // an index may leave a shard out
  });
  return 0;
}
