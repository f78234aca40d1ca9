#include "src/io/weights/pickle_opcodes.h"

#include <array>
#include <cstdio>
#include <string_view>
#include <utility>

namespace vlmamba::io {
namespace {

constexpr std::array<std::pair<uint8_t, std::string_view>, 34> kRefused{{{0x49, "INT"},
                                                                         {0x4c, "LONG"},
                                                                         {0x8b, "LONG4"},
                                                                         {0x53, "STRING"},
                                                                         {0x54, "BINSTRING"},
                                                                         {0x42, "BINBYTES"},
                                                                         {0x43, "SHORT_BINBYTES"},
                                                                         {0x8e, "BINBYTES8"},
                                                                         {0x96, "BYTEARRAY8"},
                                                                         {0x97, "NEXT_BUFFER"},
                                                                         {0x98, "READONLY_BUFFER"},
                                                                         {0x56, "UNICODE"},
                                                                         {0x8c, "SHORT_BINUNICODE"},
                                                                         {0x8d, "BINUNICODE8"},
                                                                         {0x46, "FLOAT"},
                                                                         {0x6c, "LIST"},
                                                                         {0x64, "DICT"},
                                                                         {0x90, "ADDITEMS"},
                                                                         {0x91, "FROZENSET"},
                                                                         {0x30, "POP"},
                                                                         {0x32, "DUP"},
                                                                         {0x31, "POP_MARK"},
                                                                         {0x67, "GET"},
                                                                         {0x70, "PUT"},
                                                                         {0x94, "MEMOIZE"},
                                                                         {0x82, "EXT1"},
                                                                         {0x83, "EXT2"},
                                                                         {0x84, "EXT4"},
                                                                         {0x93, "STACK_GLOBAL"},
                                                                         {0x69, "INST"},
                                                                         {0x6f, "OBJ"},
                                                                         {0x92, "NEWOBJ_EX"},
                                                                         {0x95, "FRAME"},
                                                                         {0x50, "PERSID"}}};

}  // namespace

std::string opcode_name(uint8_t opcode) {
  char code[8];
  std::snprintf(code, sizeof code, "0x%02x", opcode);
  for (const auto& [value, name] : kRefused)
    if (value == opcode) return std::string(name) + " (" + code + ")";
  return code;
}

}  // namespace vlmamba::io
