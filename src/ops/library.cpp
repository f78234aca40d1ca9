// The namespace of all ops. Each op adds its schema in a fragment of its own file.

#include <torch/library.h>

TORCH_LIBRARY(vlmamba, library) { (void)library; }
