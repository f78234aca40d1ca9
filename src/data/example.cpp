#include "vlmamba/data/example.h"

#include <algorithm>
#include <filesystem>

#include "vlmamba/core/error.h"
#include "vlmamba/core/tokens.h"

namespace vlmamba {
std::string picture_path(const std::string& root, const std::string& image) {
  return root.empty() ? image : root + "/" + image;
}

bool leaves_root(const std::string& image) {
  const std::filesystem::path path(image);
  int depth = 0, least = 0;
  for (const auto& part : path) {
    depth += part == ".." ? -1 : part == "." || part.empty() ? 0 : 1;
    least = std::min(least, depth);
  }
  return path.is_absolute() || least < 0;
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

bool has_target(const Sample& sample) {
  return !sample.labels.empty() && std::any_of(sample.labels.begin() + 1, sample.labels.end(),
                                               [](int64_t label) { return label != kIgnoreIndex; });
}

Sample ExampleReader::tokenize(const Record& record) const {
  return expand_pictures(build_training_sample(record, tokenizer, prompt), tokens_per_image);
}

// As LLaVA does, but never through a picture.
void ExampleReader::cut(Sample& sample, const Record& record) const {
  const auto length = static_cast<size_t>(max_length);
  if (sample.input_ids.size() <= length) return;
  if (std::find(sample.input_ids.begin() + max_length, sample.input_ids.end(), kImageToken) != sample.input_ids.end())
    throw Error(ExitCode::kData, "record " + record.id,
                "expected its pictures within batch.max_length (" + std::to_string(max_length) + "), got " +
                    std::to_string(sample.input_ids.size()) + " positions");
  sample.input_ids.resize(length);
  sample.labels.resize(length);
}

std::vector<std::vector<float>> ExampleReader::read_pictures(const Record& record) const {
  std::vector<std::vector<float>> pictures;
  const std::string& root = image_roots.at(record.source);
  for (const std::string& image : record.images) {
    if (!root.empty() && leaves_root(image))
      throw Error(ExitCode::kData, "record " + record.id, "expected a picture below " + root + ", got " + image);
    pictures.push_back(image_processor.process(io::read_image(picture_path(root, image))));
  }
  return pictures;
}

Example ExampleReader::read(const Record& as_it_is) const {
  std::string remark;
  const Record record = mended(as_it_is, remark);
  Example example{record.id, record.source, tokenize(record), {}};
  cut(example.sample, record);
  if (!has_target(example.sample))
    throw Error(
        ExitCode::kData, "record " + record.id,
        "expected something to learn within batch.max_length (" + std::to_string(max_length) + "), got no target");
  example.pictures = read_pictures(record);
  return example;
}

}  // namespace vlmamba
