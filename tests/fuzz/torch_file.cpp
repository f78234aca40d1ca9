// A whole file of torch.save: the zip and its pickle.

#include "tests/fuzz/target.h"
#include "vlmamba/io/weights/torch_pickle.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    for (const auto& tensor : io::parse_torch_file(fuzz::text_of(data, size), "input").tensors)
      fuzz::require(tensor.begin <= tensor.end && tensor.end <= size);
  });
  return 0;
}
