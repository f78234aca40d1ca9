#include "vlmamba/infer/prefix_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "vlmamba/core/error.h"
#include "vlmamba/core/tokens.h"
#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

using at::Tensor;

// The part of the memory that holds pictures' embeddings, which are small beside states.
constexpr int64_t kPictureShare = 8;

// The name of each beginning that ends where a piece does.
std::vector<std::string> names_of(const Prompt& prompt, const std::vector<size_t>& ends) {
  std::vector<std::string> names;
  std::string name;
  size_t begin = 0, picture = 0;
  for (const size_t end : ends) {
    const auto* ids = reinterpret_cast<const char*>(prompt.ids.data() + begin);
    name.append(ids, (end - begin) * sizeof(int64_t));
    if (prompt.ids[end - 1] == kImageToken) name += prompt.pictures[picture++]->digest;
    names.push_back(name = io::sha256(name));
    begin = end;
  }
  return names;
}

void expect_readable(const Prompt& prompt) {
  if (prompt.ids.empty()) throw Error(ExitCode::kData, "prompt", "expected at least one token, got none");
  const auto places = std::count(prompt.ids.begin(), prompt.ids.end(), kImageToken);
  if (static_cast<size_t>(places) != prompt.pictures.size())
    throw Error(ExitCode::kData, "prompt",
                "expected a place (<image>) for each of " + std::to_string(prompt.pictures.size()) + " pictures, got " +
                    std::to_string(places));
}

}  // namespace

PrefixCache::PrefixCache(const VlMamba& model, int64_t most_bytes)
    : PrefixCache(&model, *model.language_model, most_bytes) {}

PrefixCache::PrefixCache(const LanguageModel& model, int64_t most_bytes) : PrefixCache(nullptr, model, most_bytes) {}

PrefixCache::PrefixCache(const VlMamba* pictures, const LanguageModel& model, int64_t most_bytes)
    : pictures_(pictures),
      model_(model),
      device_(model.parameters().front().device()),
      states_(most_bytes - most_bytes / kPictureShare),
      embeds_(most_bytes / kPictureShare) {}

Tensor PrefixCache::picture_embeds(const Picture& picture, at::ScalarType type) {
  if (const Tensor* known = embeds_.find(picture.digest)) return *known;
  if (pictures_ == nullptr) throw Error(ExitCode::kUsage, "prompt", "expected no picture for a language model alone");
  const auto size = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(picture.pixels.size()) / 3)));
  const Tensor pixels = at::tensor(picture.pixels, at::kFloat).view({1, 3, size, size}).to(device_);
  const Tensor embeds = pictures_->embed_pictures(pixels, type).squeeze(0).clone();
  ++counts_.pictures;
  embeds_.insert(picture.digest, embeds, static_cast<int64_t>(embeds.nbytes()));
  return embeds;
}

PromptState PrefixCache::read_piece(const Prompt& prompt, size_t begin, size_t end, size_t picture,
                                    const Cache& before) {
  const bool shows = prompt.ids[end - 1] == kImageToken;
  const std::vector<int64_t> text(prompt.ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                  prompt.ids.begin() + static_cast<std::ptrdiff_t>(shows ? end - 1 : end));
  Tensor embeds = model_.embed(at::tensor(text, at::kLong).to(device_));
  if (shows) embeds = at::cat({embeds, picture_embeds(*prompt.pictures[picture], embeds.scalar_type())});
  PromptState state{before, {}};
  state.last = model_.forward(embeds.unsqueeze(0), {}, &state.cache).select(1, embeds.size(0) - 1).clone();
  counts_.positions += embeds.size(0);
  return state;
}

PromptState PrefixCache::read(const Prompt& prompt) {
  expect_readable(prompt);
  const c10::AutoGradMode no_grad(false);
  const auto ends = piece_ends(prompt.ids);
  const auto names = names_of(prompt, ends);
  PromptState state;
  size_t known = ends.size();  // pieces that need not be read
  for (; known > 0; --known)
    if (const PromptState* found = states_.find(names[known - 1])) {
      state = *found;
      break;
    }
  size_t begin = known == 0 ? 0 : ends[known - 1];
  auto picture = static_cast<size_t>(
      std::count(prompt.ids.begin(), prompt.ids.begin() + static_cast<std::ptrdiff_t>(begin), kImageToken));
  counts_.shared +=
      static_cast<int64_t>(begin - picture) +
      (pictures_ == nullptr ? 0 : static_cast<int64_t>(picture) * pictures_->vision_encoder->num_patches());
  for (size_t piece = known; piece < ends.size(); ++piece) {
    state = read_piece(prompt, begin, ends[piece], picture, state.cache);
    const bool shows = prompt.ids[ends[piece] - 1] == kImageToken;
    picture += shows ? 1 : 0;
    // A question itself is hardly asked again.
    if (shows || piece + 1 < ends.size()) {
      state.cache = state.cache.clone();  // out of the larger tensors that it may be a part of
      states_.insert(names[piece], state, state.cache.bytes());
    }
    begin = ends[piece];
  }
  return state;
}

}  // namespace vlmamba
