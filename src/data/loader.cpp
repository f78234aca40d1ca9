#include "vlmamba/data/loader.h"

#include <algorithm>

#include "vlmamba/data/collator.h"

namespace vlmamba {
namespace {

constexpr int64_t kStepsAhead = 2;

}  // namespace

Loader::Loader(const std::vector<Record>& records, const ExampleReader& reader, Sampler sampler, const BatchPlan& plan,
               int64_t first_step)
    : records_(records),
      reader_(reader),
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

void Loader::refill() {
  const int64_t steps = threads_.empty() ? 1 : 1 + kStepsAhead;
  while (static_cast<int64_t>(window_.size()) < steps * step_size_) {
    const auto index = static_cast<size_t>(sampler_.at(position_of(place_++)));
    window_.push_back(std::make_shared<Slot>(Slot{&records_[index], false, false, {}, {}}));
  }
}

void Loader::read(Slot& slot) const {
  try {
    slot.example = reader_.read(*slot.record);
  } catch (...) {
    slot.failure = std::current_exception();
  }
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

StepBatches Loader::next() {
  std::vector<std::shared_ptr<Slot>> slots;
  {
    std::unique_lock lock(mutex_);
    refill();
    const auto end = window_.begin() + step_size_;
    if (!threads_.empty()) {
      work_waits_.notify_all();
      caller_waits_.wait(
          lock, [&] { return std::all_of(window_.begin(), end, [](const auto& slot) { return slot->ready; }); });
    }
    slots.assign(window_.begin(), end);
    window_.erase(window_.begin(), end);
    refill();
    work_waits_.notify_all();
  }
  StepBatches step;
  std::vector<const Example*> examples;
  for (const auto& slot : slots) {
    if (threads_.empty()) read(*slot);
    if (slot->failure) std::rethrow_exception(slot->failure);
    examples.push_back(&slot->example);
    step.num_images += static_cast<int64_t>(slot->example.pictures.size());
  }
  for (auto first = examples.begin(); first != examples.end(); first += plan_.micro_batch) {
    step.micro_batches.push_back(
        collate({first, first + plan_.micro_batch}, reader_.tokenizer.pad_id(), reader_.image_processor.size()));
    step.num_tokens += count_targets(step.micro_batches.back());
  }
  return step;
}

}  // namespace vlmamba
