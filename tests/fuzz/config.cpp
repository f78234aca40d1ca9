// JSON configs: the sections of a run, and preprocessor_config.json.

#include "vlmamba/io/config.h"

#include "tests/fuzz/target.h"
#include "vlmamba/data/image_processor.h"
#include "vlmamba/train/stage.h"

using namespace vlmamba;

namespace {

struct Sections {
  ImageProcessorConfig image_processor;
  PromptConfig prompt;
  std::vector<StageConfig> stages;

  template <typename F>
  void visit(F& f) {
    f("image_processor", image_processor, "");
    f("prompt", prompt, "");
    f("stages", stages, "");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refuse_or_accept([&] {
    const auto json = io::parse_json(fuzz::text_of(data, size), "input", ExitCode::kUsage, /*comments=*/true);
    const std::string text = json.to_string(2);
    fuzz::require(io::parse_json(text, "again", ExitCode::kUsage).to_string(2) == text);
    fuzz::refuse_or_accept([&] {
      const auto sections = io::from_json<Sections>(json, "input");
      io::from_json<Sections>(io::write_config(sections), "again");
    });
    const auto steps = parse_image_steps(json, "input");
    if (steps.width * steps.height > 4096 || steps.crop_width * steps.crop_height > 4096) return;
    ImageProcessor(steps).pixels({3, 2, std::vector<uint8_t>(18, 77)});
  });
  return 0;
}
