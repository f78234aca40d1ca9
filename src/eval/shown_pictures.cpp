#include "src/eval/shown_pictures.h"

#include <filesystem>
#include <unordered_map>

#include "vlmamba/io/sha256.h"

namespace vlmamba {
namespace {

namespace fs = std::filesystem;

bool has_picture(const TaskQuestion& question) { return !question.image.empty() || !question.picture.empty(); }

// The next question, round the list, that shows another picture: everybody gets a wrong one.
size_t another_picture(const std::vector<TaskQuestion>& questions, size_t index) {
  const auto& own = questions[index];
  for (size_t offset = questions.size() / 2; offset < questions.size() + questions.size() / 2; ++offset) {
    const size_t other = (index + offset) % questions.size();
    const bool differs = questions[other].image != own.image || questions[other].picture != own.picture;
    if (differs && has_picture(questions[other])) return other;
  }
  return index;
}

}  // namespace

ShownPictures::ShownPictures(const TaskConfig& config, const std::vector<TaskQuestion>& questions,
                             const Responder& responder)
    : config_(config), questions_(questions), responder_(responder) {
  for (size_t i = 0; i < questions.size(); ++i) {
    const bool shuffled = config.image == ShownImage::kShuffled && has_picture(questions[i]);
    shown_.push_back(shuffled ? another_picture(questions, i) : i);
    const auto& shown = questions[shown_.back()];
    if (!has_picture(questions[i]))
      names_.emplace_back();
    else if (config.image == ShownImage::kBlank)
      names_.emplace_back("blank");
    else
      names_.push_back(shown.picture.empty() ? shown.image : io::sha256(shown.picture));
  }
}

void ShownPictures::expect_files() const {
  if (config_.image == ShownImage::kBlank) return;
  int64_t missing = 0;
  const TaskQuestion* first = nullptr;
  for (const auto& question : questions_) {
    if (question.image.empty() || fs::is_regular_file(question.image)) continue;
    if (missing++ == 0) first = &question;
  }
  if (first)
    throw Error(ExitCode::kData, first->image,
                "expected the picture of question " + first->id + ", got no such file; " + std::to_string(missing) +
                    " of " + std::to_string(questions_.size()) + " questions have no picture");
}

std::vector<size_t> ShownPictures::order() const {
  std::unordered_map<std::string_view, size_t> groups;
  std::vector<std::vector<size_t>> questions;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto [group, fresh] = groups.emplace(names_[i], questions.size());
    if (fresh) questions.emplace_back();
    questions[group->second].push_back(i);
  }
  std::vector<size_t> order;
  for (const auto& group : questions) order.insert(order.end(), group.begin(), group.end());
  return order;
}

std::vector<PicturePtr> ShownPictures::pictures(size_t question) {
  const std::string& name = names_[question];
  if (name.empty()) return {};
  if (latest_ == nullptr || name != latest_name_) {
    const auto& shown = questions_[shown_[question]];
    if (config_.image == ShownImage::kBlank)
      latest_ = responder_.blank_picture();
    else if (shown.picture.empty())
      latest_ = responder_.read_picture(shown.image);
    else
      latest_ = responder_.process(io::decode_image(shown.picture, config_.name + ", question " + shown.id));
    latest_name_ = name;
  }
  return {latest_};
}

}  // namespace vlmamba
