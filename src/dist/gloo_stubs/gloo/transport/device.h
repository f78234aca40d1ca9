#pragma once

// Stands for a header of Gloo that LibTorch uses but does not ship. See src/dist/gloo.cpp.
namespace gloo::transport {
class Device;
class UnboundBuffer;
}  // namespace gloo::transport
