#include <ATen/ATen.h>

#include <charconv>
#include <cstdio>
#include <memory>
#include <sstream>
#include <string_view>

#include "src/app/commands/commands.h"
#include "src/app/commands/sampling_options.h"
#include "src/app/terminal_picture.h"
#include "vlmamba/app/build.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string checkpoint, prompt, prompt_ids;
  std::vector<std::string> images;
  SamplingConfig sampling;
  int64_t seed = 0;
  bool by_ids = false, show = false, print_ids = false;
};

std::vector<int64_t> parse_ids(const std::string& text) {
  std::vector<int64_t> ids;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int64_t id = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), id);
    if (error != std::errc() || end != part.data() + part.size())
      throw Error(ExitCode::kUsage, "--prompt-ids", "expected integers joined by commas, got \"" + part + "\"");
    ids.push_back(id);
  }
  if (text.ends_with(',')) throw Error(ExitCode::kUsage, "--prompt-ids", "expected an integer behind the last comma");
  if (ids.empty()) throw Error(ExitCode::kUsage, "--prompt-ids", "expected integers joined by commas, got none");
  return ids;
}

uint64_t seed_of(const Options& options) { return static_cast<uint64_t>(options.seed); }

void check_ids(const std::string& option, const std::vector<int64_t>& ids, int64_t vocab_size, size_t pictures) {
  size_t places = 0;
  for (const int64_t id : ids) {
    places += id == kImageToken ? 1 : 0;
    if (id != kImageToken && (id < 0 || id >= vocab_size))
      throw Error(ExitCode::kUsage, option,
                  "expected ids of 0 to " + std::to_string(vocab_size - 1) + ", got " + std::to_string(id));
  }
  if (places != pictures)
    throw Error(ExitCode::kUsage, option,
                "expected " + std::to_string(pictures) +
                    " pictures in the text (-200, <image>), one for each --image, got " + std::to_string(places));
}

void print_ids(const std::vector<int64_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%lld", i ? "," : "", static_cast<long long>(ids[i]));
  std::printf("\n");
}

void print_answer(const std::string& answer) {
  const auto first = answer.find_first_not_of(" \n");
  std::printf("%s\n", first == std::string::npos ? "" : answer.substr(first).c_str());
}

// Adds the weights' part in it to an error of non-finite values.
template <typename Answer>
std::vector<int64_t> explained(const Options& options, const Answer& answer) try {
  return answer();
} catch (const Error& error) {
  if (error.code() != ExitCode::kNonFinite) throw;
  throw Error(error.code(), error.what() + ("; " + cause_of_non_finite(options.checkpoint)));
}

// A language model of another library: it knows no pictures, and perhaps no words.
ExitCode continue_text(const ForeignModel& model, const Options& options) {
  if (!model.language_model)
    throw Error(ExitCode::kUsage, options.checkpoint, "expected a language model, got " + model.description);
  if (!options.images.empty())
    throw Error(ExitCode::kUsage, "--image", "expected none for a language model alone (" + model.description + ")");
  if (!model.tokenizer && !options.by_ids)
    throw Error(ExitCode::kUsage, "--prompt",
                "expected tokenizer.json beside the weights, got none; use --prompt-ids and --print-ids");
  if (!model.tokenizer && !options.print_ids)
    throw Error(ExitCode::kUsage, "--prompt-ids",
                "expected --print-ids too: without tokenizer.json beside the weights the answer cannot be text");
  const auto prompt = !options.by_ids ? model.tokenizer->encode(options.prompt) : parse_ids(options.prompt_ids);
  check_ids(!options.by_ids ? "--prompt" : "--prompt-ids", prompt, model.language_config.embedding_rows(), 0);
  if (prompt.empty()) throw Error(ExitCode::kUsage, "--prompt", "expected at least one token, got none");
  PrefixCache reader(*model.language_model);
  Generator generator(*model.language_model, options.sampling, model.end_tokens, seed_of(options));
  const auto answer = explained(options, [&] { return generate(reader, generator, {{prompt, {}}}).front(); });
  if (options.print_ids)
    print_ids(answer);
  else
    print_answer(model.tokenizer->decode(answer));
  return ExitCode::kOk;
}

// Where the prompt places pictures, it places every one of them once.
void check_places(const Options& options) {
  constexpr std::string_view kPlace = "<image>";
  size_t places = 0;
  for (size_t at = options.prompt.find(kPlace); at != std::string::npos; at = options.prompt.find(kPlace, at + 1))
    ++places;
  if (places > 0 && places != options.images.size())
    throw Error(ExitCode::kUsage, "--prompt",
                "expected " + std::to_string(options.images.size()) + " <image>, one for each --image, or none, got " +
                    std::to_string(places));
}

ExitCode answer_prompt(const Options& options, const Extensions& extensions) {
  if (const auto foreign = load_foreign(options.checkpoint)) return continue_text(*foreign, options);
  const LoadedModel loaded = load_checkpoint(options.checkpoint, extensions);
  const Responder responder = loaded.responder(options.sampling, seed_of(options));
  if (!options.by_ids) check_places(options);
  Question question{"prompt", options.prompt, {}};
  for (const auto& path : options.images) {
    question.pictures.push_back(responder.read_picture(path));
    if (options.show) print_picture(io::read_image(path));
  }
  const auto prompt = !options.by_ids ? responder.prompt_ids(question) : parse_ids(options.prompt_ids);
  check_ids(!options.by_ids ? "--prompt" : "--prompt-ids", prompt, loaded.config.model.language_model.vocab_size,
            question.pictures.size());
  if (prompt.empty()) throw Error(ExitCode::kUsage, "--prompt", "expected at least one token, got none");
  const auto ids = explained(options, [&] { return responder.continue_ids({prompt, question.pictures}); });
  if (options.print_ids) {
    print_ids(ids);
    return ExitCode::kOk;
  }
  if (options.show) std::printf("> %s\n", options.prompt.c_str());
  print_answer(loaded.tokenizer.decode(ids));
  return ExitCode::kOk;
}

}  // namespace

Command add_generate(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "Answer one prompt, with or without pictures");
  command
      ->add_option(
          "--checkpoint", options->checkpoint,
          "a run (its newest checkpoint), a step folder, or a language model's folder of Hugging Face or mamba_ssm")
      ->required();
  command->add_option("--image", options->images, "a picture; may be given several times")->expected(1)->take_all();
  auto* prompt =
      command->add_option("--prompt", options->prompt, "the question; <image> places a picture, else it stands first");
  auto* ids = command->add_option("--prompt-ids", options->prompt_ids,
                                  "the whole prompt as ids joined by commas, -200 for a picture");
  prompt->excludes(ids);
  add_sampling_options(*command, options->sampling, options->seed);
  command->add_flag("--show", options->show, "draw the pictures in the terminal");
  command->add_flag("--print-ids", options->print_ids, "print the new ids, not the text");
  command->callback([prompt, ids, options] {
    options->by_ids = ids->count() > 0;
    if (prompt->count() + ids->count() == 0) throw CLI::RequiredError("--prompt or --prompt-ids");
  });
  return {command, [options, &extensions] { return answer_prompt(*options, extensions); }};
}

}  // namespace vlmamba::app
