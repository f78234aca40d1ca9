#include <iostream>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/data/tokenizer.h"
#include "vlmamba/io/json.h"

namespace vlmamba::app {
namespace {

using io::Json;

struct Options {
  std::string tokenizer;
  bool decode = false, skip_special = false, special_as_text = false;
};

std::vector<int64_t> ids_of(const Json& json, int64_t vocab_size, const std::string& where) {
  std::vector<int64_t> ids;
  for (const Json& id : json.items()) {
    if (!id.is_integer())
      throw Error(ExitCode::kData, where, "expected an array of ids, got " + json.to_string().substr(0, 80));
    if (id.as_integer() < 0 || id.as_integer() >= vocab_size)
      throw Error(ExitCode::kData, where,
                  "expected ids of 0 to " + std::to_string(vocab_size - 1) + ", got " + id.to_string());
    ids.push_back(id.as_integer());
  }
  return ids;
}

// One JSON string a line in, one JSON array of ids a line out; or back.
ExitCode tokenize(const Options& options) {
  const auto tokenizer = Tokenizer::load(options.tokenizer);
  int64_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const std::string where = "standard input:" + std::to_string(++number);
    const Json json = io::parse_json(line, where, ExitCode::kData);
    if (options.decode ? !json.is_array() : !json.is_string())
      throw Error(ExitCode::kData, where,
                  std::string("expected ") + (options.decode ? "an array of ids" : "a string") + ", got " +
                      std::string(io::kind_name(json.kind())));
    Json out = Json::array();
    if (options.decode)
      out = tokenizer.decode(ids_of(json, tokenizer.vocab_size(), where), options.skip_special);
    else
      for (const int64_t id : tokenizer.encode(json.as_string(), !options.special_as_text)) out.push(id);
    std::cout << out.to_string() << "\n";
  }
  return ExitCode::kOk;
}

}  // namespace

Command add_tokenize(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Turn JSON strings into ids, a line each from standard input, or back");
  command->add_option("--tokenizer", options->tokenizer, "tokenizer.json, or its folder")->required();
  auto* decode = command->add_flag("--decode", options->decode, "turn arrays of ids into strings");
  command->add_flag("--skip-special", options->skip_special, "leave special tokens out of decoded strings")
      ->needs(decode);
  command
      ->add_flag("--special-as-text", options->special_as_text, "special tokens written out in a string are plain text")
      ->excludes(decode);
  return {command, [options] { return tokenize(*options); }};
}

}  // namespace vlmamba::app
