#include "vlmamba/data/loader.h"

#include <algorithm>

#include "vlmamba/core/error.h"
#include "vlmamba/data/collator.h"

namespace vlmamba {
namespace {

constexpr int64_t kAheadOfThread = 4;  // records behind the step, so that no thread waits for the last of it
constexpr int64_t kReplacements = 100;

}  // namespace

Loader::Loader(SampleReader reader, Sampler sampler, const BatchPlan& plan, int64_t first_step)
    : reader_(std::move(reader)),
      sampler_(std::move(sampler)),
      plan_(plan),
      step_size_(plan.global_batch / plan.world),
      place_(first_step * step_size_) {
  for (int64_t i = 0; i < plan.threads; ++i) threads_.emplace_back([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_waits_.notify_all();
  for (auto& thread : threads_) thread.join();
}

int64_t Loader::position_of(int64_t place) const {
  const int64_t micro = place / plan_.micro_batch;  // of this process
  return (micro * plan_.world + plan_.rank) * plan_.micro_batch + place % plan_.micro_batch;
}

void Loader::refill(int64_t size) {
  while (static_cast<int64_t>(window_.size()) < size) {
    const int64_t position = position_of(place_++);
    window_.push_back(std::make_shared<Slot>(Slot{position, sampler_.at(position), false, false, {}, {}}));
  }
}

void Loader::read(Slot& slot) const try {
  slot.result = reader_.read(slot.record);
  for (int64_t attempt = 0; !slot.result.example; ++attempt) {
    if (attempt == kReplacements)
      throw Error(ExitCode::kData, "data",
                  "expected one of " + std::to_string(kReplacements) +
                      " records to be usable, got none; the first: " + slot.result.remark.text);
    // Only the record that the position is due counts: each is due once an epoch.
    slot.result.example = reader_.read(sampler_.replacement(slot.position, slot.record, attempt)).example;
  }
} catch (...) {
  slot.failure = std::current_exception();
}

void Loader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    std::shared_ptr<Slot> slot;
    work_waits_.wait(lock, [&] {
      const auto waiting = std::find_if(window_.begin(), window_.end(), [](const auto& one) { return !one->started; });
      if (waiting != window_.end()) slot = *waiting;
      return stopping_ || slot != nullptr;
    });
    if (stopping_) return;
    slot->started = true;
    lock.unlock();
    read(*slot);
    lock.lock();
    slot->ready = true;
    caller_waits_.notify_one();
  }
}

std::vector<std::shared_ptr<Loader::Slot>> Loader::take_step() {
  const int64_t ahead = kAheadOfThread * static_cast<int64_t>(threads_.size());
  std::unique_lock lock(mutex_);
  refill(step_size_ + ahead);
  const auto end = window_.begin() + step_size_;
  if (!threads_.empty()) {
    work_waits_.notify_all();
    caller_waits_.wait(lock,
                       [&] { return std::all_of(window_.begin(), end, [](const auto& slot) { return slot->ready; }); });
  }
  std::vector<std::shared_ptr<Slot>> slots(window_.begin(), end);
  window_.erase(window_.begin(), end);
  if (!threads_.empty()) refill(std::max(step_size_, ahead));
  work_waits_.notify_all();
  return slots;
}

StepBatches Loader::next() {
  StepBatches step;
  const auto slots = take_step();
  std::vector<const Example*> examples;
  for (const auto& slot : slots) {
    if (threads_.empty()) read(*slot);
    if (slot->failure) std::rethrow_exception(slot->failure);
    examples.push_back(&*slot->result.example);
    step.samples.add(slot->result.remark.fate);
    if (!slot->result.remark.text.empty()) step.remarks.push_back(slot->result.remark);
    step.num_images += static_cast<int64_t>(examples.back()->pictures.size());
  }
  const ExampleReader& reader = reader_.examples();
  const int64_t pad_id = reader.tokenizer.pad_id(), image_size = reader.image_processor.size();
  for (auto first = examples.begin(); first != examples.end(); first += plan_.micro_batch) {
    const Row micro(first, first + plan_.micro_batch);
    step.micro_batches.push_back(
        plan_.packing ? collate_rows(pack(micro, reader.max_length), pad_id, image_size, plan_.pin_memory)
                      : collate(micro, pad_id, image_size, plan_.pin_memory));
    step.num_tokens += count_targets(step.micro_batches.back());
  }
  return step;
}

}  // namespace vlmamba
