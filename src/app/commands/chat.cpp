#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include "src/app/commands/commands.h"
#include "src/app/commands/sampling_options.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/text.h"
#include "vlmamba/infer/conversation.h"
#include "vlmamba/io/config.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string checkpoint;
  std::vector<std::string> images;
  SamplingConfig sampling{.max_new_tokens = 512};
  int64_t seed = 0;
};

// What /set changes.
struct Settings {
  SamplingConfig sampling;
  int64_t seed = 0;

  template <typename F>
  void visit(F& f) {
    sampling.visit(f);
    f("seed", seed, "seed of the draws", Range{0});
  }
};

constexpr const char* kHelp =
    "/image FILE      adds a picture that the next question is about; <image> in the question places it\n"
    "/set KEY=VALUE   temperature, top_p, top_k, max_new_tokens or seed; /set alone shows them\n"
    "/reset           forgets the conversation and its pictures\n"
    "/quit            ends; so does Ctrl-D. Ctrl-C ends an answer\n";

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int) { interrupted = 1; }

// Ctrl-C reaches the program while it lives, and lets reads return.
class Interrupts {
 public:
  Interrupts() {
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, &before_);
  }
  ~Interrupts() { ::sigaction(SIGINT, &before_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

 private:
  struct sigaction before_ = {};
};

// Lines of standard input, from a person or a pipe.
class Lines {
 public:
  bool from_person() const { return person_; }

  std::optional<std::string> next() {
    prompt();
    for (size_t end; (end = waiting_.find('\n')) == std::string::npos;) {
      char bytes[4096];
      const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
      if (count < 0 && errno == EINTR) {
        interrupted = 0;
        if (person_) std::printf("\n/quit or Ctrl-D ends\n");
        prompt();
      } else if (count <= 0) {
        if (waiting_.empty()) return std::nullopt;
        waiting_ += '\n';  // the last line of a pipe need not have one
      } else {
        waiting_.append(bytes, static_cast<size_t>(count));
      }
    }
    const size_t end = waiting_.find('\n');
    const std::string line = waiting_.substr(0, end);
    waiting_.erase(0, end + 1);
    return stripped(line);
  }

 private:
  void prompt() const {
    if (person_) std::printf("> ");
    std::fflush(stdout);
  }

  bool person_ = ::isatty(STDIN_FILENO) != 0;
  std::string waiting_;
};

class Chat {
 public:
  Chat(const Options& options, Responder responder) : options_(options), responder_(std::move(responder)) {}

  // False: the end.
  bool take(const std::string& line) {
    if (line.empty()) return true;
    if (line[0] != '/') return ask(line);
    const size_t space = line.find(' ');
    const std::string command = line.substr(0, space);
    const std::string argument = space == std::string::npos ? "" : stripped(line.substr(space));
    if (command == "/quit" || command == "/exit") return false;
    if (command == "/help")
      std::printf("%s", kHelp);
    else if (command == "/reset")
      conversation_.reset();
    else if (command == "/image")
      add_picture(argument);
    else if (command == "/set")
      set(argument);
    else
      throw Error(ExitCode::kUsage, command, "expected /image, /set, /reset, /help or /quit");
    return true;
  }

  void add_picture(const std::string& path) {
    if (path.empty()) throw Error(ExitCode::kUsage, "/image", "expected a file, got none");
    conversation_.add_picture(responder_.read_picture(path));
  }

 private:
  bool ask(const std::string& question) {
    interrupted = 0;
    const std::string answer = conversation_.ask(responder_, question, [](const std::string& text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
      return interrupted == 0;
    });
    std::printf("\n");
    interrupted = 0;
    return true;
  }

  void set(const std::string& setting) {
    io::Json json = io::write_config(options_.sampling);
    json.set("seed", options_.seed);
    if (setting.empty()) {
      for (const auto& [key, value] : json.members()) std::printf("%s=%s\n", key.c_str(), value.to_string().c_str());
      return;
    }
    io::apply_overrides(json, {setting});
    const auto settings = io::from_json<Settings>(json, "/set");
    options_.sampling = settings.sampling;
    options_.seed = settings.seed;
    responder_.set_sampling(options_.sampling, static_cast<uint64_t>(options_.seed));
  }

  Options options_;
  Responder responder_;
  Conversation conversation_;
};

ExitCode chat(const Options& options, const Extensions& extensions) {
  const LoadedModel loaded = load_checkpoint(options.checkpoint, extensions);
  if (loaded.config.prompt.template_name == PromptTemplate::kPlain)
    throw Error(ExitCode::kUsage, options.checkpoint, "expected a model of conversations, got one of captions (plain)");
  Chat chat(options, loaded.responder(options.sampling, static_cast<uint64_t>(options.seed)));
  for (const auto& image : options.images) chat.add_picture(image);
  Lines lines;
  if (lines.from_person())
    std::printf("%s, step %lld. /help tells more.\n", loaded.place.stage.c_str(),
                static_cast<long long>(loaded.place.step));
  const Interrupts interrupts;
  while (const auto line = lines.next()) {
    try {
      if (!chat.take(*line)) break;
    } catch (const Error& error) {
      if (!lines.from_person()) throw;  // nobody could mend what follows
      std::printf("%s\n", error.what());
    }
  }
  return ExitCode::kOk;
}

}  // namespace

Command add_chat(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("chat", "Talk about pictures in the terminal, or with a pipe");
  command->add_option("--checkpoint", options->checkpoint, "a run (its newest checkpoint) or a step folder")
      ->required();
  command->add_option("--image", options->images, "a picture; may be given several times")->expected(1)->take_all();
  add_sampling_options(*command, options->sampling, options->seed);
  command->footer(std::string("A line is a question, or one of\n") + kHelp);
  return {command, [options, &extensions] { return chat(*options, extensions); }};
}

}  // namespace vlmamba::app
