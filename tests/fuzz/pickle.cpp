// A pickle alone, so that mutations need not mend CRCs, with two storages that it may name.

#include "tests/fuzz/target.h"
#include "vlmamba/io/weights/torch_pickle.h"

using namespace vlmamba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<io::TorchStorage> storages{{"0", 64, 128}, {"1", 128, 1152}};
  fuzz::refuse_or_accept([&] {
    for (const auto& tensor : io::read_torch_tensors(fuzz::text_of(data, size), storages, 1152, "input").tensors)
      fuzz::require(tensor.begin <= tensor.end && tensor.end <= 1152);
  });
  return 0;
}
