#include "vlmamba/train/memory_meter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>

namespace vlmamba {
namespace {

constexpr uint8_t kPriority = 255;

// Allocates as LibTorch does, and keeps books. Tensors that it made may outlive every meter.
class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* base) : base_(base) {}

  c10::DataPtr allocate(size_t bytes) override {
    void* memory = base_->raw_allocate(bytes);
    const std::scoped_lock lock(mutex_);
    if (memory != nullptr) {
      int64_t& size = sizes_[memory];  // above 0: this address was given back to the base allocator itself
      now_ += static_cast<int64_t>(bytes) - size;
      size = static_cast<int64_t>(bytes);
    }
    peak_ = std::max(peak_, now_);
    return {memory, memory, &give_back, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

  c10::Allocator* base() const { return base_; }
  void start() {
    const std::scoped_lock lock(mutex_);
    peak_ = now_;
  }
  int64_t now() {
    const std::scoped_lock lock(mutex_);
    return now_;
  }
  int64_t peak() {
    const std::scoped_lock lock(mutex_);
    return peak_;
  }

 private:
  static void give_back(void* memory);

  void forget(void* memory) {
    const std::scoped_lock lock(mutex_);
    const auto entry = sizes_.find(memory);
    if (entry == sizes_.end()) return;  // was made before the meter began
    now_ -= entry->second;
    sizes_.erase(entry);
  }

  c10::Allocator* base_;
  std::mutex mutex_;
  std::unordered_map<void*, int64_t> sizes_;
  int64_t now_ = 0, peak_ = 0;
};

CountingAllocator& counter() {
  static auto* allocator = new CountingAllocator(c10::GetCPUAllocator());  // never destroyed: others may keep it
  return *allocator;
}

void CountingAllocator::give_back(void* memory) {
  counter().forget(memory);
  counter().base()->raw_deallocate(memory);
}

}  // namespace

MemoryMeter::MemoryMeter() {
  counter().start();
  c10::SetCPUAllocator(&counter(), kPriority);
}

MemoryMeter::~MemoryMeter() { c10::SetCPUAllocator(counter().base(), kPriority); }

int64_t MemoryMeter::now() const { return counter().now(); }
int64_t MemoryMeter::peak() const { return counter().peak(); }

}  // namespace vlmamba
