#include "tests/emulated_cuda/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// void switch_stack(void** save, void* load): what a call must preserve goes onto the old stack and comes off the new.
// ucontext would do, but asks the system for the signal mask at every switch, which takes twenty times as long.
asm(R"(
.text
.type vlmamba_switch_stack, @function
vlmamba_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size vlmamba_switch_stack, .-vlmamba_switch_stack
)");
extern "C" void vlmamba_switch_stack(void** save, void* load);

namespace vlmamba::emulation {
namespace {

constexpr size_t kGuard = 4096, kStack = 128 << 10;

Fibre* running = nullptr;
void* resumer_stack_pointer = nullptr;

// AddressSanitizer must know on which stack the program is. Of the resumer's stack it tells us on arrival.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kSanitized = true;
const void* resumer_stack = nullptr;
size_t resumer_stack_size = 0;
void* resumer_fake_stack = nullptr;

void before_fibre(const void* stack) { __sanitizer_start_switch_fiber(&resumer_fake_stack, stack, kStack); }
void after_fibre() { __sanitizer_finish_switch_fiber(resumer_fake_stack, nullptr, nullptr); }
void on_arrival(void* fake) { __sanitizer_finish_switch_fiber(fake, &resumer_stack, &resumer_stack_size); }
void before_return(void** fake) { __sanitizer_start_switch_fiber(fake, resumer_stack, resumer_stack_size); }
void forget(void* stack) { __asan_unpoison_memory_region(stack, kStack); }
#else
constexpr bool kSanitized = false;
void before_fibre(const void*) {}
void after_fibre() {}
void on_arrival(void*) {}
void before_return(void**) {}
void forget(void*) {}
#endif

}  // namespace

Fibre::Fibre()
    : memory_(static_cast<char*>(
          mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory_, kGuard, PROT_NONE);
}

Fibre::~Fibre() {
  forget(memory_ + kGuard);
  munmap(memory_, kGuard + kStack);
}

void Fibre::start(std::function<void()> body) {
  forget(memory_ + kGuard);
  body_ = std::move(body);
  finished_ = false;
  // Six registers and the return address of switch_stack, which leaves the stack as a call of enter() would.
  auto* top = reinterpret_cast<uint64_t*>(memory_ + kGuard + kStack) - 2;
  *top = reinterpret_cast<uint64_t>(&Fibre::enter);
  for (int i = 1; i <= 6; ++i) top[-i] = 0;
  stack_pointer_ = top - 6;
}

bool Fibre::resume() {
  running = this;
  before_fibre(memory_ + kGuard);
  vlmamba_switch_stack(&resumer_stack_pointer, stack_pointer_);
  after_fibre();
  running = nullptr;
  return !finished_;
}

void Fibre::pause() { running->leave(); }

bool Fibre::sanitized() { return kSanitized; }

void Fibre::leave() {
  void* fake = nullptr;
  // The address sanitizer frees the fake stack of a fibre that ends.
  before_return(finished_ ? nullptr : &fake);
  vlmamba_switch_stack(&stack_pointer_, resumer_stack_pointer);
  on_arrival(fake);
}

void Fibre::enter() {
  on_arrival(nullptr);
  running->body_();
  running->finished_ = true;
  running->leave();
}

}  // namespace vlmamba::emulation
