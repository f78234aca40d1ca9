#include "vlmamba/io/weights/torch_pickle.h"

#include <gtest/gtest.h>

#include "tests/io/archive.h"
#include "vlmamba/core/error.h"
#include "vlmamba/io/weights/pickle.h"
#include "vlmamba/io/weights/zip.h"

namespace vlmamba::io {
namespace {

using namespace test;  // NOLINT: the words of the files under test

const std::string kEight(8, '\x01');  // bytes of a storage of two floats

std::string file_of(const std::string& object, const std::vector<Record>& more = {{"a/data/0", kEight}}) {
  std::vector<Record> records{{"a/data.pkl", pickle(object)}, {"a/byteorder", "little"}};
  records.insert(records.end(), more.begin(), more.end());
  return archive(records);
}

std::string two(int64_t offset = 0, const std::vector<int64_t>& shape = {2},
                const std::vector<int64_t>& strides = {1}) {
  return tensor(storage("FloatStorage", "0", 2), offset, shape, strides);
}

std::string message(const std::string& bytes, std::string_view prefix = {}) {
  try {
    parse_torch_file(bytes, "file", prefix);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kWeights);
    return error.what();
  }
  return "no error";
}

void expect_refused(const std::vector<std::pair<std::string, std::string>>& cases) {
  for (const auto& [bytes, expected] : cases)
    EXPECT_NE(message(bytes).find(expected), std::string::npos)
        << "got      " << message(bytes) << "\nexpected " << expected;
}

TEST(TorchFile, GivesTensorsTheirNamesTypesShapesAndPlaces) {
  const std::string bytes =
      file_of(dict({{"w", two()}, {"tied", two()}, {"last", two(1, {}, {})}, {"none", two(0, {0, 3}, {3, 1})}}));
  const auto table = parse_torch_file(bytes, "file");
  ASSERT_EQ(table.tensors.size(), 4u);
  const auto& w = table.tensors[0];
  EXPECT_EQ(w.name + " " + w.dtype + " " + shape_text(w.shape), "w F32 [2]");
  EXPECT_EQ(bytes.substr(w.begin, w.end - w.begin), kEight);
  EXPECT_TRUE(w.strides.empty());
  EXPECT_EQ(table.tensors[1].begin, w.begin);  // a shared storage
  EXPECT_EQ(table.tensors[2].begin, w.begin + 4);
  EXPECT_EQ(table.tensors[3].end, table.tensors[3].begin);
}

TEST(TorchFile, AcceptsWhatTorchSaveAndZipMayWrite) {
  const std::string parameter =
      global("torch._utils", "_rebuild_parameter") + tuple({two(), "\x88", ordered_dict()}) + "R";
  const std::string metadata = ordered_dict() + dict({{"_metadata", ordered_dict()}}, "}") + "b";
  const std::string hooks_none =
      global("torch._utils", "_rebuild_tensor_v2") +
      tuple({storage("FloatStorage", "0", 2), number(0), numbers({2}), numbers({1}), "\x88", "N"}) + "R";
  const std::string typed =
      global("torch._utils", "_rebuild_tensor_v3") +
      tuple(
          {tuple({text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), number(8)}) + "Q",
           number(0), numbers({8}), numbers({1}), "\x89", ordered_dict(), global("torch", "float8_e4m3fn")}) +
      "R";
  for (const auto& object : {dict({{"a", two()}}, ordered_dict()), dict({{"p", parameter}}),
                             metadata + std::string("(") + text("a") + two() + "u", dict({{"a", hooks_none}}),
                             dict({{"a", typed}}), std::string("}")})
    EXPECT_EQ(message(file_of(object)), "no error");
  EXPECT_EQ(message(archive({{"a/data.pkl", pickle("}")}}, /*zip64=*/false)), "no error");
  EXPECT_EQ(message(archive({{"a/data.pkl", pickle("}"), 0x0800}, {"a/version", "3\n", 0}})), "no error");
  EXPECT_EQ(message(file_of(dict({{"a", two()}}), {{"a/data/0", kEight},
                                                   {"a/version", "3\n"},
                                                   {"a/.data/serialization_id", "1"},
                                                   {"a/.format_version", "1"},
                                                   {"a/.storage_alignment", "64"}})),
            "no error");
}

TEST(TorchFile, AcceptsEveryOpcodeThatTorchSaveWrites) {
  const std::string all = std::string("N") + "\x88" + "\x89" + "J" + le<int32_t>(-7) + "K\x05" + "M" +
                          le<uint16_t>(700) + "\x8a\x02\x01\x80" + "G" + std::string(8, '\x40') + text("x") + "U\x01y" +
                          "}" + "]" + ")" + "\x8f" + "K\x01\x85" + "K\x01K\x02\x86" + "K\x01K\x02K\x03\x87" +
                          "]K\x01\x61" + "](K\x01K\x02\x65" + "}" + text("k") + "K\x01s" + "]q\x07" + "h\x07" + "]r" +
                          le<uint32_t>(900) + "j" + le<uint32_t>(900) + global("collections", "OrderedDict") + ")\x81";
  const std::string bytes = file_of(dict({{"other", "(" + all + "t"}, {"m", dict({{"a", two()}})}}));
  EXPECT_EQ(parse_torch_file(bytes, "file", "m.").tensors.size(), 1u);
}

TEST(TorchFile, AcceptsEveryTypeOfStorageAndASizeForItsTuple) {
  for (const auto& [type, dtype, size] : {std::tuple("Float", "F32", 4),
                                          {"Double", "F64", 8},
                                          {"Half", "F16", 2},
                                          {"BFloat16", "BF16", 2},
                                          {"Long", "I64", 8},
                                          {"Int", "I32", 4},
                                          {"Short", "I16", 2},
                                          {"Char", "I8", 1},
                                          {"Byte", "U8", 1},
                                          {"Bool", "BOOL", 1}}) {
    const std::string object = tensor(storage(std::string(type) + "Storage", "0", 8 / size), 0, {8 / size}, {1});
    EXPECT_EQ(parse_torch_file(file_of(dict({{"a", object}})), "file").tensors[0].dtype, dtype);
  }
  const std::string sized = global("torch._utils", "_rebuild_tensor_v2") +
                            tuple({storage("FloatStorage", "0", 2), number(0),
                                   global("torch", "Size") + tuple({numbers({2})}) + "R", numbers({1}), "\x89", "N"}) +
                            "R";
  EXPECT_EQ(message(file_of(dict({{"a", sized}}))), "no error");
}

TEST(Pickle, ALargeOneIsRefusedBeforeItIsRead) {
  EXPECT_THROW(read_pickle(std::string((size_t{256} << 20) + 1, '\0'), "file"), Error);
}

TEST(TorchFile, JoinsTheNamesOfDictsInDictsAndSelectsByPrefix) {
  const std::string bytes = file_of(
      dict({{"epoch", number(3)}, {"model", dict({{"x", dict({{"y", two()}})}, {"z.w", two()}}, ordered_dict())}}));
  EXPECT_NE(message(bytes).find("[file: epoch] expected a tensor or a dict"), std::string::npos) << message(bytes);
  const auto table = parse_torch_file(bytes, "file", "model.");
  ASSERT_EQ(table.tensors.size(), 2u);
  EXPECT_EQ(table.tensors[0].name, "x.y");
  EXPECT_EQ(table.tensors[1].name, "z.w");
}

TEST(TorchFile, KeepsStridesThatAreNotThoseOfCOrder) {
  const auto table =
      parse_torch_file(file_of(dict({{"t", two(0, {1, 2}, {7, 1})}, {"e", two(1, {2, 2}, {0, 0})}})), "f");
  EXPECT_TRUE(table.tensors[0].strides.empty());  // the stride of one row does not matter
  EXPECT_EQ(table.tensors[1].strides, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(table.tensors[1].end - table.tensors[1].begin, 4u);
}

TEST(TorchFile, EveryBrokenRuleOfTensorsIsNamed) {
  const auto t = [](const std::string& object) { return file_of(dict({{"a", object}})); };
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2"), where = storage("FloatStorage", "0", 2);
  expect_refused(
      {{file_of(two()), "expected a dict of tensors"},
       {file_of(dict({{"a", two()}, {"a", two()}})), "[file: a] expected each name once"},
       {file_of(std::string("}K\x01") + two() + "s"), "expected names as keys"},
       {t("]"), "[file: a] expected a tensor or a dict"},
       {t(where), "expected a tensor or a dict"},
       {t(two(1)), "expected elements inside its storage of 2, got some behind it"},
       {t(two(0, {2}, {2})), "expected elements inside its storage"},
       {t(two(0, {int64_t{1} << 48, 4}, {1, 1})), "shape: expected at most 2^51 bytes"},
       {t(two(0, {2, 2}, {int64_t{1} << 48, int64_t{1} << 48})), "expected elements inside its storage"},
       {t(two(0, {-1}, {1})), "size: expected a whole number"},
       {t(two(0, {1}, {-1})), "stride: expected a whole number"},
       {t(two(-1, {1}, {1})), "offset: expected a whole number"},
       {t(two(0, {1, 2}, {1})), "expected a stride for each dimension"},
       {t(two(0, std::vector<int64_t>(9, 1), std::vector<int64_t>(9, 1))), "expected at most 8 dimensions"},
       {t(two(0, {100000}, {0})), "expected tensors of at most twice the file"},
       {t(tensor(storage("FloatStorage", "1", 2), 0, {2}, {1})), "expected the storage data/1, got none"},
       {t(tensor(storage("FloatStorage", "0", 3), 0, {2}, {1})), "expected a storage of 12 bytes, got 8"},
       {t(tensor(storage("HalfStorage", "0", 2), 0, {2}, {1})), "expected a storage of 4 bytes, got 8"},
       {t(tensor(tuple({text("storage")}) + "Q", 0, {2}, {1})), "expected a storage of 5 parts"},
       {t(rebuild + tuple({where}) + "R"), "expected 6 arguments of a tensor, got 1"},
       {t(rebuild + tuple({where, number(0), numbers({2}), numbers({1}), "\x89", dict({{"hook", "N"}})}) + "R"),
        "expected a tensor without hooks"},
       {t(global("torch._utils", "_rebuild_parameter") + tuple({number(1), "\x89", "N"}) + "R"),
        "expected a Parameter of one tensor"},
       {file_of(std::string("}q\x01") + text("a") + "h\x01s"), "expected each dict in one place"}});
}

TEST(Pickle, EveryOpcodeThatTorchDoesNotWriteIsRefusedByName) {
  for (const auto& [code, name] : std::vector<std::pair<char, std::string>>{{'\x93', "STACK_GLOBAL"},
                                                                            {'i', "INST"},
                                                                            {'o', "OBJ"},
                                                                            {'\x92', "NEWOBJ_EX"},
                                                                            {'\x82', "EXT1"},
                                                                            {'\x83', "EXT2"},
                                                                            {'\x84', "EXT4"},
                                                                            {'P', "PERSID"},
                                                                            {'g', "GET"},
                                                                            {'p', "PUT"},
                                                                            {'B', "BINBYTES"},
                                                                            {'C', "SHORT_BINBYTES"},
                                                                            {'\x8e', "BINBYTES8"},
                                                                            {'\x8d', "BINUNICODE8"},
                                                                            {'\x8c', "SHORT_BINUNICODE"},
                                                                            {'\x95', "FRAME"},
                                                                            {'\x94', "MEMOIZE"},
                                                                            {'\x96', "BYTEARRAY8"},
                                                                            {'\x97', "NEXT_BUFFER"},
                                                                            {'\x8b', "LONG4"},
                                                                            {'2', "DUP"},
                                                                            {'0', "POP"},
                                                                            {'1', "POP_MARK"},
                                                                            {'I', "INT"},
                                                                            {'S', "STRING"},
                                                                            {'\x90', "ADDITEMS"},
                                                                            {'\x91', "FROZENSET"},
                                                                            {'\x7f', "0x7f"}})
    EXPECT_NE(message(file_of(std::string("}") + code)).find("expected an opcode that torch.save writes, got " + name),
              std::string::npos)
        << message(file_of(std::string("}") + code));
}

TEST(Pickle, NamesOfProgramsAreRefusedAndNeverCalled) {
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"os", "system"},
                                                        {"builtins", "eval"},
                                                        {"torch._utils", "_rebuild_sparse_tensor"},
                                                        {"torch._utils", "_rebuild_qtensor"},
                                                        {"torch", "ComplexFloatStorage"},
                                                        {"torch.nn", "Linear"},
                                                        {"collections", "OrderedDict.x"},
                                                        {"torch", "FloatStorageX"}}) {
    const std::string text_of = message(file_of(global(module, name) + tuple({text("x")}) + "R"));
    EXPECT_NE(text_of.find("got \"" + module + " " + name + "\", which this program never loads"), std::string::npos);
    EXPECT_NE(text_of.find("pickle byte 2"), std::string::npos) << text_of;
  }
}

TEST(Pickle, EveryMisuseOfTheStackIsNamed) {
  const auto p = [](const std::string& bytes) { return archive({{"a/data.pkl", bytes}}); };
  expect_refused(
      {{p(""), "expected a pickle of protocol 2"},
       {p("\x80\x04}."), "expected protocol 2, got 4"},
       {p("\x80\x03}."), "pickle_protocol=2"},
       {p("}."), "expected a pickle of protocol 2"},
       {p("\x80\x02}"), "expected 1 more bytes, got the end"},
       {p("\x80\x02."), "expected one object at STOP, got 0"},
       {p("\x80\x02}}."), "expected one object at STOP, got 2"},
       {p("\x80\x02}.}"), "expected nothing behind STOP, got 1 bytes"},
       {p("\x80\x02}\x80\x02."), "expected an opcode that torch.save writes"},
       {p("\x80\x02s."), "expected an object on the stack, got none"},
       {p("\x80\x02u."), "expected a MARK"},
       {p("\x80\x02}(K\x01u."), "expected pairs of key and value"},
       {p("\x80\x02]K\x01K\x02s."), "expected a dict on the stack"},
       {p("\x80\x02}K\x01\x61."), "expected a list on the stack"},
       {p("\x80\x02h\x07."), "expected an object remembered as 7"},
       {p("\x80\x02q\x01."), "expected an object to remember"},
       {p("\x80\x02}}b."), "BUILD: expected an OrderedDict or a Parameter"},
       {p(std::string("\x80\x02") + "}(\x85."), "expected an object on the stack"},
       {p("\x80\x02X\xff\xff\xff\xff."), "expected 4294967295 more bytes, got the end"},
       {p("\x80\x02\x8a\x09"
          "123456789."),
        "expected an integer of at most 8 bytes"},
       {p(std::string("\x80\x02") + two() + "}K\x01K\x02sb."), "expected an OrderedDict or a Parameter"},
       {p(std::string("\x80\x02") + two() + "K\x01K\x02s."), "expected a dict on the stack"},
       {p(std::string("\x80\x02") + global("collections", "OrderedDict") + "K\x01\x85R."), "expected no arguments"},
       {p("\x80\x02}(" + std::string(1'000'001, 'N') + "."), "expected at most 1,000,000 objects"},
       {p("\x80\x02" + std::string(1'000'001, '}') + "."), "expected at most 1,000,000 objects"}});
}

TEST(Pickle, BombsOfReferencesStaySmall) {
  std::string deep = "}q" + std::string(1, '\0');  // each dict holds the last one twice: 2^60 paths
  for (char i = 1; i < 60; ++i)
    deep = std::string("}(") + text("a") + deep + text("b") + "h" + std::string(1, static_cast<char>(i - 1)) + "uq" +
           std::string(1, i);
  EXPECT_NE(message(file_of(deep)).find("expected each dict in one place"), std::string::npos);
  std::string nested = "}";
  for (int i = 0; i < 70; ++i) nested = dict({{"a", nested}});
  EXPECT_NE(message(file_of(nested)).find("expected at most 64 levels"), std::string::npos);
}

TEST(Zip, EveryBrokenRuleIsNamed) {
  const Record ok{"a/data.pkl", pickle("}")};
  const auto with = [&](Record record) { return archive({ok, std::move(record)}); };
  Record wrong_crc{"a/data/0", kEight}, other_name{"a/data/0", kEight}, other_size{"a/data/0", kEight, 0x0800};
  wrong_crc.crc_off_by = 1;
  other_name.local_name = "a/data/1";
  other_size.local_size_off_by = 1;
  std::string legacy("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20j\xa8P\x19.", 15), tar(600, '\0');
  tar.replace(257, 5, "ustar");
  expect_refused(
      {{"abc", "expected a zip archive, got 3 bytes"},
       {archive({ok}) + "x", "expected the end record"},
       {archive({ok}).substr(0, archive({ok}).size() - 2) + std::string("\x01\0x", 3), "expected the end record"},
       {archive({ok}, true, "before"), "expected to begin at byte 0"},
       {with({"a/data/0", kEight, 0x0808, 8}), "expected a stored entry"},
       {with({"a/data/0", kEight, 0x0809}), "without encryption"},
       {with(wrong_crc), "expected data of its CRC"},
       {with(other_name), "that agrees with the directory"},
       {with(other_size), "that agrees with the directory"},
       {archive({ok, ok}), "expected once, got twice"},
       {with({"b/data/0", kEight}), "expected all records in one folder"},
       {with({"a/code/x.py", ""}), "got a program"},
       {with({"a/constants.pkl", ""}), "got a program"},
       {with({"a/x.py", ""}), "got a program"},
       {with({"a/data/0/1", ""}), "expected the records of torch.save"},
       {with({"a/data/../x", ""}), "expected the records of torch.save"},
       {with({"a/data/" + std::string(65, 'x'), ""}), "expected the records of torch.save"},
       {with({"a/byteorder", "big"}), "byteorder: expected little"},
       {archive({{"a/version", "3"}}), "expected the record data.pkl"},
       {archive({}), "expected the record data.pkl"},
       {legacy, "before 1.6; convert it once in Python"},
       {tar, "got a tar archive; convert it once"}});
}

TEST(Zip, OverlappingEntriesAreRefused) {
  std::string bytes = archive({{"a/data.pkl", pickle("}")}, {"a/data/0", kEight}}, /*zip64=*/false);
  const auto second = bytes.rfind("PK\x01\x02");
  bytes.replace(second + 42, 4, le<uint32_t>(0));  // its data are the first entry's
  EXPECT_NE(message(bytes).find("agrees with the directory"), std::string::npos) << message(bytes);
}

TEST(TorchFile, EveryTruncationAndEveryChangedByteIsDetectedOrHarmless) {
  const std::string bytes = file_of(dict({{"a", two()}}));
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_NE(message(bytes.substr(0, size)), "no error") << size;
  for (size_t i = 0; i < bytes.size(); ++i)
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      message(changed);  // an Error or a table, never a crash
    }
}

}  // namespace
}  // namespace vlmamba::io
