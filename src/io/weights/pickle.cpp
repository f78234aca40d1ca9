#include "vlmamba/io/weights/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>

#include "src/io/weights/pickle_opcodes.h"
#include "vlmamba/core/error.h"

namespace vlmamba::io {
namespace {

using Kind = PickleNode::Kind;

constexpr size_t kMaxNodes = 1'000'000;  // of nodes, of the stack, of the memo, of members in all containers

// Exactly these; no rule of prefixes.
constexpr std::array<std::string_view, 11> kGlobals{"collections OrderedDict",
                                                    "torch._utils _rebuild_tensor_v2",
                                                    "torch._utils _rebuild_tensor_v3",
                                                    "torch._utils _rebuild_parameter",
                                                    "torch Size",
                                                    "torch.storage UntypedStorage",
                                                    "torch uint16",
                                                    "torch uint32",
                                                    "torch uint64",
                                                    "torch float8_e4m3fn",
                                                    "torch float8_e5m2"};
constexpr std::array<std::string_view, 10> kStorages{
    "torch FloatStorage", "torch DoubleStorage", "torch HalfStorage", "torch BFloat16Storage", "torch LongStorage",
    "torch IntStorage",   "torch ShortStorage",  "torch CharStorage", "torch ByteStorage",     "torch BoolStorage"};

bool allowed(std::string_view global) {
  return std::find(kGlobals.begin(), kGlobals.end(), global) != kGlobals.end() ||
         std::find(kStorages.begin(), kStorages.end(), global) != kStorages.end();
}

PickleNode node_of(Kind kind, std::string_view text = {}) {
  PickleNode node;
  node.kind = kind;
  node.text = text;
  return node;
}

class Machine {
 public:
  Machine(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  Pickle run() {
    pickle_.lists.emplace_back();  // the members of everything that has none
    if (bytes_.size() < 2 || byte() != kProto) refuse("expected a pickle of protocol 2 to begin with PROTO");
    if (const uint8_t protocol = byte(); protocol != 2)
      refuse("expected protocol 2, got " + std::to_string(protocol) +
             "; save it again with torch.save(…, pickle_protocol=2)");
    for (;;) {
      opcode_at_ = at_;
      const uint8_t opcode = byte();
      if (opcode == kStop) break;
      execute(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty())
      refuse("expected one object at STOP, got " + std::to_string(stack_.size()));
    if (at_ != bytes_.size())
      refuse("expected nothing behind STOP, got " + std::to_string(bytes_.size() - at_) + " bytes");
    pickle_.root = stack_.back();
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw Error(ExitCode::kWeights, where_ + ": pickle byte " + std::to_string(opcode_at_), message);
  }

  std::string_view take(uint64_t size) {
    if (size > bytes_.size() - at_) refuse("expected " + std::to_string(size) + " more bytes, got the end");
    const auto text = bytes_.substr(at_, size);
    at_ += size;
    return text;
  }
  uint8_t byte() { return static_cast<uint8_t>(take(1)[0]); }
  template <typename T>
  T little_endian() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view line() {
    const auto end = bytes_.find('\n', at_);
    if (end == std::string_view::npos) refuse("expected a line, got the end");
    const auto text = take(end - at_);
    take(1);
    return text;
  }

  uint32_t add(PickleNode node) {
    if (pickle_.nodes.size() == kMaxNodes) refuse("expected at most 1,000,000 objects, got more");
    pickle_.nodes.push_back(node);
    return static_cast<uint32_t>(pickle_.nodes.size() - 1);
  }
  void push(uint32_t node) {
    if (stack_.size() == kMaxNodes) refuse("expected at most 1,000,000 objects on the stack, got more");
    stack_.push_back(node);
  }
  void push_integer(int64_t value, Kind kind = Kind::kInteger) {
    PickleNode node = node_of(kind);
    node.integer = value;
    push(add(node));
  }
  void push_text(Kind kind, std::string_view text) { push(add(node_of(kind, text))); }
  void push_container(Kind kind, std::vector<uint32_t> members = {}) {
    count_members(members.size());
    PickleNode node = node_of(kind);
    if (!members.empty() || kind == Kind::kDict || kind == Kind::kList) {
      node.items = static_cast<uint32_t>(pickle_.lists.size());
      pickle_.lists.push_back(std::move(members));
    }
    push(add(node));
  }
  void count_members(size_t more) {
    if ((members_ += more) > 4 * kMaxNodes) refuse("expected at most 4,000,000 members, got more");
  }

  // The bottom of what may be popped: the objects below a mark belong to what will be made from it.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  uint32_t pop() {
    if (stack_.size() <= floor()) refuse("expected an object on the stack, got none");
    const uint32_t node = stack_.back();
    stack_.pop_back();
    return node;
  }
  std::vector<uint32_t> pop_to_mark() {
    if (marks_.empty()) refuse("expected a MARK on the stack, got none");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<uint32_t> members(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return members;
  }
  // The object on top, which the members just popped are added to.
  PickleNode& top(Kind kind, const char* what) {
    if (stack_.size() <= floor() || pickle_.nodes[stack_.back()].kind != kind)
      refuse("expected " + std::string(what) + " on the stack, got something else");
    return pickle_.nodes[stack_.back()];
  }
  void add_members(Kind kind, const char* what, const std::vector<uint32_t>& members) {
    if (kind == Kind::kDict && members.size() % 2 != 0) refuse("expected pairs of key and value, got an odd number");
    count_members(members.size());
    auto& items = pickle_.lists[top(kind, what).items];
    items.insert(items.end(), members.begin(), members.end());
  }
  void push_tuple_of(size_t count) {
    std::vector<uint32_t> members(count);
    for (size_t i = count; i-- > 0;) members[i] = pop();
    push_container(Kind::kTuple, std::move(members));
  }

  void remember(uint32_t index) {
    if (stack_.size() <= floor()) refuse("expected an object to remember, got none");
    if (memo_.size() >= kMaxNodes) refuse("expected at most 1,000,000 remembered objects, got more");
    memo_[index] = stack_.back();
  }
  void recall(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse("expected an object remembered as " + std::to_string(index) + ", got none");
    push(found->second);
  }

  void execute(uint8_t opcode);
  void push_global();
  void push_long();
  void call(const char* opcode);
  void build();

  std::string_view bytes_;
  const std::string& where_;
  Pickle pickle_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, uint32_t> memo_;
  uint64_t at_ = 0, opcode_at_ = 0, members_ = 0;
};

void Machine::push_global() {
  const auto module = line(), name = line();
  const std::string global = std::string(module) + " " + std::string(name);
  if (!allowed(global))
    refuse("expected the names that torch.save writes for tensors, got \"" + global.substr(0, 120) +
           "\", which this program never loads");
  push_text(Kind::kGlobal, bytes_.substr(static_cast<size_t>(module.data() - bytes_.data()),
                                         module.size() + 1 + name.size()));  // "module\nname"
}

void Machine::push_long() {
  const auto digits = take(byte());
  if (digits.size() > 8) refuse("expected an integer of at most 8 bytes, got " + std::to_string(digits.size()));
  uint64_t value = !digits.empty() && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
  for (size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(digits[i]);
  push_integer(static_cast<int64_t>(value));
}

// REDUCE and NEWOBJ: an OrderedDict becomes a dict, torch.Size its tuple; a rebuilt tensor stays the call that it is.
void Machine::call(const char* opcode) {
  const uint32_t arguments = pop(), callee = pop();
  const auto &f = pickle_.nodes[callee], &x = pickle_.nodes[arguments];
  if (f.kind != Kind::kGlobal || x.kind != Kind::kTuple)
    refuse(std::string(opcode) + ": expected a name and a tuple, got something else");
  const auto& members = pickle_.lists[x.items];
  if (f.text == "collections\nOrderedDict") {
    if (!members.empty()) refuse("OrderedDict: expected no arguments, got " + std::to_string(members.size()));
    push_container(Kind::kDict);
    pickle_.nodes[stack_.back()].ordered = true;
  } else if (f.text == "torch\nSize" && members.size() == 1 && pickle_.nodes[members[0]].kind == Kind::kTuple) {
    push(members[0]);
  } else if (f.text.starts_with("torch._utils\n_rebuild_")) {
    push_container(Kind::kCall, {callee, arguments});
  } else {
    refuse(std::string(opcode) + ": expected OrderedDict or a tensor to rebuild, got \"" +
           std::string(f.text.substr(0, 120)) + "\"");
  }
}

// The state that BUILD sets (a module's _metadata, a parameter's attributes) says nothing about the values.
void Machine::build() {
  pop();
  if (stack_.size() <= floor()) refuse("expected an object for BUILD, got none");
  const auto& node = pickle_.nodes[stack_.back()];
  const bool parameter = node.kind == Kind::kCall &&
                         pickle_.nodes[pickle_.lists[node.items][0]].text == "torch._utils\n_rebuild_parameter";
  if (!(node.kind == Kind::kDict && node.ordered) && !parameter)
    refuse("BUILD: expected an OrderedDict or a Parameter, got something else");
}

void Machine::execute(uint8_t opcode) {
  switch (opcode) {
    case kMark: {
      if (marks_.size() == kMaxNodes) refuse("expected at most 1,000,000 marks, got more");
      return marks_.push_back(stack_.size());
    }
    case kNone:
      return push(add(node_of(Kind::kNone)));
    case kNewTrue:
      return push_integer(1, Kind::kBool);
    case kNewFalse:
      return push_integer(0, Kind::kBool);
    case kBinInt:
      return push_integer(little_endian<int32_t>());
    case kBinInt1:
      return push_integer(byte());
    case kBinInt2:
      return push_integer(little_endian<uint16_t>());
    case kLong1:
      return push_long();
    case kBinFloat:
      take(8);
      return push(add(node_of(Kind::kNumber)));
    case kBinUnicode:
      return push_text(Kind::kString, take(little_endian<uint32_t>()));
    case kShortBinString:
      return push_text(Kind::kString, take(byte()));
    case kGlobal:
      return push_global();
    case kReduce:
      return call("REDUCE");
    case kNewObj:
      return call("NEWOBJ");
    case kBuild:
      return build();
    case kBinPersId:
      return push_container(Kind::kPersistent, {pop()});
    case kEmptyDict:
      return push_container(Kind::kDict);
    case kEmptyList:
      return push_container(Kind::kList);
    case kEmptyTuple:
      return push_container(Kind::kTuple);
    case kEmptySet:
      return push_container(Kind::kSet);
    case kTuple:
      return push_container(Kind::kTuple, pop_to_mark());
    case kTuple1:
      return push_tuple_of(1);
    case kTuple2:
      return push_tuple_of(2);
    case kTuple3:
      return push_tuple_of(3);
    case kAppend: {
      const uint32_t value = pop();
      return add_members(Kind::kList, "a list", {value});
    }
    case kAppends:
      return add_members(Kind::kList, "a list", pop_to_mark());
    case kSetItem: {
      const uint32_t value = pop(), key = pop();
      return add_members(Kind::kDict, "a dict", {key, value});
    }
    case kSetItems:
      return add_members(Kind::kDict, "a dict", pop_to_mark());
    case kBinPut:
      return remember(byte());
    case kLongBinPut:
      return remember(little_endian<uint32_t>());
    case kBinGet:
      return recall(byte());
    case kLongBinGet:
      return recall(little_endian<uint32_t>());
    default:
      refuse("expected an opcode that torch.save writes, got " + opcode_name(opcode));
  }
}

}  // namespace

Pickle read_pickle(std::string_view bytes, const std::string& where) {
  constexpr size_t kMaxSize = size_t{256} << 20;
  if (bytes.size() > kMaxSize)
    throw Error(ExitCode::kWeights, where,
                "expected a pickle of at most 256 MiB, got " + std::to_string(bytes.size()) + " bytes");
  return Machine(bytes, where).run();
}

}  // namespace vlmamba::io
