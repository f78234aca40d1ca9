#include "vlmamba/data/example.h"

#include <algorithm>

#include "vlmamba/core/error.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {
namespace {

// Cuts to max_length positions as LLaVA does, but never through a picture.
void cut(Sample& sample, int64_t max_length, const Record& record) {
  const auto length = static_cast<size_t>(max_length);
  if (sample.input_ids.size() <= length) return;
  if (std::find(sample.input_ids.begin() + max_length, sample.input_ids.end(), kImageToken) != sample.input_ids.end())
    throw Error(ExitCode::kData, "record " + record.id,
                "expected its pictures within batch.max_length (" + std::to_string(max_length) + "), got " +
                    std::to_string(sample.input_ids.size()) + " positions");
  sample.input_ids.resize(length);
  sample.labels.resize(length);
}

}  // namespace

std::string picture_path(const std::string& root, const std::string& image) {
  return root.empty() ? image : root + "/" + image;
}

Sample expand_pictures(const Sample& sample, int64_t tokens_per_image) {
  Sample expanded;
  for (size_t i = 0; i < sample.input_ids.size(); ++i) {
    const auto times = static_cast<size_t>(sample.input_ids[i] == kImageToken ? tokens_per_image : 1);
    expanded.input_ids.insert(expanded.input_ids.end(), times, sample.input_ids[i]);
    if (!sample.labels.empty()) expanded.labels.insert(expanded.labels.end(), times, sample.labels[i]);
  }
  return expanded;
}

Example ExampleReader::read(const Record& record) const {
  Example example{record.id,
                  record.source,
                  expand_pictures(build_training_sample(record, tokenizer, prompt), tokens_per_image),
                  {}};
  cut(example.sample, max_length, record);
  // Nothing precedes the first position, so that it is no target.
  const auto& labels = example.sample.labels;
  if (labels.empty() ||
      std::all_of(labels.begin() + 1, labels.end(), [](int64_t label) { return label == kIgnoreIndex; }))
    throw Error(
        ExitCode::kData, "record " + record.id,
        "expected something to learn within batch.max_length (" + std::to_string(max_length) + "), got no target");
  for (const std::string& image : record.images)
    example.pictures.push_back(
        image_processor.process(io::read_image(picture_path(image_roots.at(record.source), image))));
  return example;
}

}  // namespace vlmamba
