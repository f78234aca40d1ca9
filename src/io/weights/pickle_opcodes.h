#pragma once

#include <cstdint>
#include <string>

namespace vlmamba::io {

// The opcodes of pickle (Python's pickletools) that a file may use.
enum Opcode : uint8_t {
  kProto = 0x80,
  kStop = 0x2e,
  kMark = 0x28,
  kGlobal = 0x63,
  kReduce = 0x52,
  kBuild = 0x62,
  kNewObj = 0x81,
  kBinPersId = 0x51,
  kNone = 0x4e,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 0x4a,
  kBinInt1 = 0x4b,
  kBinInt2 = 0x4d,
  kLong1 = 0x8a,
  kBinFloat = 0x47,
  kBinUnicode = 0x58,
  kShortBinString = 0x55,
  kEmptyDict = 0x7d,
  kEmptyList = 0x5d,
  kEmptyTuple = 0x29,
  kEmptySet = 0x8f,
  kTuple = 0x74,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kAppend = 0x61,
  kAppends = 0x65,
  kSetItem = 0x73,
  kSetItems = 0x75,
  kBinPut = 0x71,
  kLongBinPut = 0x72,
  kBinGet = 0x68,
  kLongBinGet = 0x6a,
};

/// The name of an opcode that is not allowed: "GLOBAL (0x63)".
std::string opcode_name(uint8_t opcode);

}  // namespace vlmamba::io
