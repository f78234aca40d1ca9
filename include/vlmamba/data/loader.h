#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "vlmamba/core/batch.h"
#include "vlmamba/data/sample_reader.h"
#include "vlmamba/data/sampler.h"

namespace vlmamba {

/// How a step's records are cut into batches. Micro-batch m of a step belongs to process m % world.
struct BatchPlan {
  int64_t global_batch;         ///< records of an optimizer step, of all processes
  int64_t micro_batch;          ///< records of a forward pass; divides global_batch
  int64_t threads;              ///< that read examples ahead; 0: the caller reads
  int64_t rank = 0, world = 1;  ///< this process, and how many there are
  bool packing = false;         ///< several records in a row, as many as fit into the reader's max_length
  bool pin_memory = false;      ///< batches lie where a GPU can fetch them while it computes
};

/// All batches of one optimizer step that are this process's, and what they hold.
struct StepBatches {
  std::vector<Batch> micro_batches;
  int64_t num_tokens = 0;  ///< targets, which the step's loss is divided by
  int64_t num_images = 0;
  SampleCounts samples;
  std::vector<SampleRemark> remarks;  ///< on records that are not used as they are, in order
};

/// Reads the records of one optimizer step after another, in the sampler's order for any number of threads. A record
/// that is left out is replaced by one that depends on its position alone, so that neither threads nor processes nor a
/// resumed run change what is trained on. Threads touch no tensor: batches are made by the caller of next(). At most
/// this step, the next, and a few records a thread are in memory.
class Loader {
 public:
  /// `first_step` counts from 0.
  Loader(SampleReader reader, Sampler sampler, const BatchPlan& plan, int64_t first_step);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The batches of the next step. Throws what reading one of its records threw.
  StepBatches next();

 private:
  struct Slot {
    int64_t position, record;
    bool started = false, ready = false;
    SampleReader::Result result;
    std::exception_ptr failure;
  };
  int64_t position_of(int64_t place) const;  // of what this process reads at a place, counted from the run's start
  void refill(int64_t size);                 // the window of records ahead of the caller, to this size
  void work();
  void read(Slot& slot) const;
  std::vector<std::shared_ptr<Slot>> take_step();

  const SampleReader reader_;
  Sampler sampler_;
  BatchPlan plan_;
  int64_t step_size_;  // records of a step that are this process's
  int64_t place_;      // of the first record that is not in the window

  std::mutex mutex_;
  std::condition_variable work_waits_, caller_waits_;
  std::deque<std::shared_ptr<Slot>> window_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace vlmamba
