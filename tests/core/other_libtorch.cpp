// Preloaded, it makes LibTorch claim to be another release.

#include <cstdint>

extern "C" uint64_t aoti_torch_abi_version() { return uint64_t{2} << 56 | uint64_t{9} << 48; }
