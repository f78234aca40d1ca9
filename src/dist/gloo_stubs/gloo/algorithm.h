#pragma once

// Stands for a header of Gloo that LibTorch uses but does not ship. See src/dist/gloo.cpp.
