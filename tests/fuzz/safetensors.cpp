#include "vlmamba/io/weights/safetensors.h"

#include "tests/fuzz/target.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto table = io::parse_safetensors(fuzz::text_of(data, size), "input");
    for (const auto& tensor : table.tensors) {
      fuzz::require(tensor.begin <= tensor.end && tensor.end <= size);
      fuzz::require(static_cast<uint64_t>(tensor.elements()) * io::dtype_size(tensor.dtype) ==
                    tensor.end - tensor.begin);
    }
  });
  return 0;
}
