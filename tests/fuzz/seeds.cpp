// Writes the seeds that are made of code: fuzz_seeds FOLDER. Pictures lie in tests/fuzz/pictures, made by Pillow.

#include <filesystem>
#include <fstream>
#include <iostream>

#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/weights/torch_file.h"
#include "vlmamba/io/weights/zip.h"

using namespace vlmamba;
namespace fs = std::filesystem;

namespace {

void write(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

void write_weights(const fs::path& folder) {
  static const float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<io::TensorView> tensors{{"a.weight", "F32", {2, 4}, values, 32},
                                            {"tied", "F32", {2, 4}, values, 32},
                                            {"half", "BF16", {3}, values + 1, 6},
                                            {"none", "I64", {0, 2}, values + 2, 0},
                                            {"scalar", "U8", {}, values + 3, 1}};
  write(folder / "safetensors/some", io::to_safetensors(tensors, {{"who", "seed"}}));
  write(folder / "safetensors/empty", io::to_safetensors({}, {}));
  const std::string file = io::to_torch_file(tensors);
  write(folder / "torch_file/some", file);
  for (const auto& entry : io::read_zip_directory(file, "seed"))
    if (entry.name.ends_with("data.pkl"))
      write(folder / "pickle/some", file.substr(entry.begin, entry.end - entry.begin));
  write(folder / "index/good",
        R"({"metadata": {"total_size": 32}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})");
}

void write_texts(const fs::path& folder) {
  write(folder / "tokenizer/small", R"({"added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false,
    "lstrip": false, "rstrip": true, "normalized": false, "special": true}, {"id": 6, "content": "  ", "single_word": true,
    "lstrip": true, "rstrip": false, "normalized": true, "special": false}], "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "unk_token": null, "fuse_unk": false, "ignore_merges": false, "vocab": {"<|endoftext|>": 0,
    "a": 1, "b": 2, "Ġ": 3, "ab": 4, "Ġab": 5}, "merges": ["a b", ["Ġ", "ab"]]}})");
  write(folder / "text/some", "don't  we'll\n\n\tna\xc3\xafve e\xcc\x81\xcc\xa7 \xe6\x9d\xb1 <|endoftext|>12 \xff");
  write(folder / "records/some",
        R"([{"id": "1", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nwhat?"},
    {"from": "gpt", "value": "this"}]}, {"id": 2, "conversations": [{"from": "gpt", "value": "x"}, {"from": "human",
    "value": ""}, {"from": "gpt", "value": "y"}]}])");
  write(folder / "config/clip",
        R"({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 8}, "crop_size":
    {"height": 4, "width": 5}, "resample": 2, "do_normalize": true, "image_mean": [0.5, 0.4, 0.3], "image_std": 0.5})");
  write(folder / "config/huge_resample",  // no integer holds it
        R"({"image_processor_type": "CLIPImageProcessor", "size": {"height": 8, "width": 5}, "resample": 6e111})");
  write(folder / "config/sections", R"({"image_processor": {"size": 8, "mode": "pad"}, // a comment
    "prompt": {"template": "v1"}, "stages": [{"name": "one", "trainable": ["connector"], "steps": 5, "optimizer": {"lr": 1e-3}}]})");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "fuzz_seeds FOLDER\n";
    return 2;
  }
  write_weights(argv[1]);
  write_texts(argv[1]);
  for (const auto& picture : fs::directory_iterator(VLMAMBA_SOURCE_DIR "/tests/fuzz/pictures"))
    write(fs::path(argv[1]) / "image" / picture.path().filename(),
          io::read_file(picture.path().string(), ExitCode::kData));
}
