#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "src/app/commands/commands.h"
#include "src/app/terminal_picture.h"
#include "vlmamba/app/build.h"
#include "vlmamba/core/text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/base64.h"
#include "vlmamba/io/images/png.h"
#include "vlmamba/nn/parameters.h"

namespace vlmamba::app {
namespace {

struct Options {
  std::string config, stage, html;
  std::vector<std::string> overrides;
  int64_t count = 3;
};

// Positions of an example that are alike: a picture, text that is learnt, or text that is not.
struct Part {
  enum class Kind { kPicture, kLearnt, kOther } kind;
  int64_t positions = 0;
  std::string text;
};

std::vector<Part> parts_of(const Sample& sample, const Tokenizer& tokenizer, int64_t tokens_per_image) {
  std::vector<Part> parts;
  std::vector<int64_t> ids;
  for (size_t t = 0; t < sample.input_ids.size(); ++t) {
    const bool picture = sample.input_ids[t] == kImageToken, learnt = t > 0 && sample.labels[t] != kIgnoreIndex;
    const auto kind = picture ? Part::Kind::kPicture : learnt ? Part::Kind::kLearnt : Part::Kind::kOther;
    const bool same =
        !parts.empty() && parts.back().kind == kind && (!picture || parts.back().positions < tokens_per_image);
    if (!same) {
      parts.push_back({kind, 0, ""});
      ids.clear();
    }
    ++parts.back().positions;
    ids.push_back(sample.input_ids[t]);
    if (!picture) parts.back().text = tokenizer.decode(ids, /*skip_special=*/false);
  }
  return parts;
}

// The picture as the encoder sees it, back in 8 bits.
io::Image picture_of(const std::vector<float>& values, const ImageProcessorConfig& config) {
  const auto size = static_cast<size_t>(config.size);
  io::Image image{static_cast<int>(size), static_cast<int>(size), std::vector<uint8_t>(3 * size * size)};
  for (size_t i = 0; i < size * size; ++i)
    for (size_t channel = 0; channel < 3; ++channel) {
      const double value = values[channel * size * size + i] * config.std[channel] + config.mean[channel];
      image.rgb[3 * i + channel] = static_cast<uint8_t>(std::clamp(std::lround(255 * value), 0L, 255L));
    }
  return image;
}

std::string heading(const Example& example, const std::string& set) {
  const auto& labels = example.sample.labels;
  const auto learnt =
      std::count_if(labels.begin() + 1, labels.end(), [](int64_t label) { return label != kIgnoreIndex; });
  return "record " + example.id + " of " + set + ": " + std::to_string(labels.size()) + " positions, " +
         std::to_string(example.pictures.size()) + (example.pictures.size() == 1 ? " picture, " : " pictures, ") +
         std::to_string(learnt) + " learnt";
}

// Learnt text is green, or between [[ and ]] where there are no colours.
void print_example(const std::vector<Part>& parts, const std::vector<io::Image>& pictures) {
  const bool colours = shows_colours();
  size_t picture = 0;
  for (const Part& part : parts) {
    if (part.kind == Part::Kind::kPicture) {
      std::printf("<picture of %lld positions>\n", static_cast<long long>(part.positions));
      if (picture < pictures.size()) print_picture(pictures[picture++]);
    } else if (part.kind == Part::Kind::kLearnt) {
      std::printf(colours ? "\033[1;32m%s\033[0m" : "[[%s]]", part.text.c_str());
    } else {
      std::printf(colours ? "\033[2m%s\033[0m" : "%s", part.text.c_str());
    }
  }
  std::printf("\n\n");
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

std::string html_of(const std::string& title, const std::vector<Part>& parts, const std::vector<io::Image>& pictures) {
  std::string html = "<h2>" + escaped(title) + "</h2>\n<pre>";
  size_t picture = 0;
  for (const Part& part : parts) {
    const std::string positions = " title=\"" + std::to_string(part.positions) + " positions\"";
    if (part.kind == Part::Kind::kPicture && picture < pictures.size())
      html += "<img" + positions + " src=\"data:image/png;base64," +
              io::encode_base64(io::encode_png(pictures[picture++])) + "\">";
    else
      html += (part.kind == Part::Kind::kLearnt ? "<b" : "<span") + positions + ">" + escaped(part.text) +
              (part.kind == Part::Kind::kLearnt ? "</b>" : "</span>");
  }
  return html + "</pre>\n";
}

constexpr const char* kPage =
    "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>What is learnt</title>\n"
    "<style>pre{white-space:pre-wrap;color:#777} b{color:#063;background:#cfc} img{display:block}</style>\n";

int64_t patches_of(const VisionEncoderConfig& config) {
  const nn::WithoutValues without_values(at::kFloat, at::kMeta);
  return make_vision_encoder(config)->num_patches();
}

size_t stage_index(const RunConfig& config, const std::string& name) {
  std::string names;
  for (size_t i = 0; i < config.stages.size(); ++i) {
    if (name.empty() || config.stages[i].name == name) return i;
    names += (names.empty() ? "" : ", ") + config.stages[i].name;
  }
  throw Error(ExitCode::kUsage, "--stage",
              "expected " + (names.empty() ? "a config with stages" : "one of " + names) + ", got \"" + name + "\"");
}

ExitCode show_labels(const Options& options) {
  const RunConfig config = read_run_config(options.config, options.overrides);
  const size_t index = stage_index(config, options.stage);
  const StageConfig& stage = config.stages[index];
  const Tokenizer tokenizer = load_tokenizer(config);
  const int64_t patches = patches_of(config.model.vision_encoder);
  const StageData data = load_stage_data(config, stage, tokenizer, patches, "");
  Sampler sampler = stage_sampler(data, stage.batch, static_cast<uint64_t>(config.seed), static_cast<uint32_t>(index));
  const SampleReader reader = data.training_reader();
  std::string html = kPage;
  for (int64_t position = 0; position < options.count; ++position) {
    const auto [example, remark] = reader.read(sampler.at(position));
    if (!remark.text.empty()) std::printf("%s\n\n", remark.text.c_str());
    if (!example) continue;
    const std::string title = heading(*example, data.set_names[example->source]);
    const auto parts = parts_of(example->sample, tokenizer, patches);
    std::vector<io::Image> pictures;
    for (const auto& values : example->pictures) pictures.push_back(picture_of(values, config.image_processor));
    html += html_of(title, parts, pictures);
    std::printf("%s\n", title.c_str());
    print_example(parts, pictures);
  }
  if (!options.html.empty()) io::write_file_atomically(options.html, html);
  return ExitCode::kOk;
}

}  // namespace

Command add_show_labels(CLI::App& app, const Extensions&) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("show-labels", "Print samples of a stage as they are trained on, with what is learnt marked");
  command->add_option("--config", options->config, "run config")->required();
  command->add_option("--set", options->overrides, "replaces a value of the config: key.path=value")
      ->expected(1)
      ->take_all();
  command->add_option("--stage", options->stage, "of this stage; otherwise of the first");
  command->add_option("--count", options->count, "the first so many samples of the stage")->check(CLI::PositiveNumber);
  command->add_option("--html", options->html, "write them to this page too, with their pictures");
  return {command, [options] { return show_labels(*options); }};
}

}  // namespace vlmamba::app
