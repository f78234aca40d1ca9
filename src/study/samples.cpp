#include "src/study/samples.h"

#include <algorithm>
#include <set>

#include "vlmamba/data/resize.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/base64.h"
#include "vlmamba/io/images/decode.h"
#include "vlmamba/io/images/png.h"

namespace vlmamba::study {
namespace {

constexpr int kLargestSide = 320;
constexpr int kSmallSide = 128;

struct CellAnswers {
  std::string cell;
  AnsweredTask task;
};

void add_picture(const TaskQuestion& question, Sample& sample) {
  if (question.image.empty() && question.picture.empty()) return;
  const std::string bytes =
      question.picture.empty() ? io::read_file(question.image, ExitCode::kData) : question.picture;
  io::Image image = io::decode_image(bytes, question.image);
  const int longest = std::max(image.width, image.height);
  sample.small = longest <= kSmallSide;
  if (longest > kLargestSide)
    image = resize(image, std::max(1, image.width * kLargestSide / longest),
                   std::max(1, image.height * kLargestSide / longest));
  sample.picture = "data:image/png;base64," + io::encode_base64(io::encode_png(image));
}

// Do the cells fare differently on it, or at least speak differently?
bool divides(const std::vector<CellAnswers>& cells, size_t question) {
  const auto differs = [&](const CellAnswers& cell) {
    if (cell.task.credits.empty() || cells[0].task.credits.empty())
      return cell.task.answers[question] != cells[0].task.answers[question];
    return cell.task.credits[question] != cells[0].task.credits[question];
  };
  return std::any_of(cells.begin(), cells.end(), differs);
}

// By category in turn, those that divide the cells first; else in the order of the questions.
std::vector<size_t> choose(const std::vector<CellAnswers>& cells, size_t count) {
  const auto& questions = cells[0].task.questions;
  std::map<std::string, std::vector<size_t>> by_category;
  for (const bool dividing : {true, false})
    for (size_t i = 0; i < questions.size(); ++i)
      if (divides(cells, i) == dividing) by_category[questions[i].category].push_back(i);
  std::vector<size_t> chosen;
  std::set<std::string> shown;  // pictures, each once if there are enough
  for (const bool repeat : {false, true})
    for (size_t turn = 0, left = 1; left > 0 && chosen.size() < count; ++turn) {
      left = 0;
      for (const auto& [category, indices] : by_category) {
        if (turn >= indices.size() || chosen.size() == count) continue;
        ++left;
        const size_t index = indices[turn];
        if (std::find(chosen.begin(), chosen.end(), index) != chosen.end()) continue;
        const bool fresh = questions[index].image.empty() || shown.insert(questions[index].image).second;
        if (fresh || repeat) chosen.push_back(index);
      }
    }
  return chosen;
}

Sample sample_of(const std::vector<CellAnswers>& cells, size_t index) {
  const TaskQuestion& question = cells[0].task.questions[index];
  Sample sample;
  sample.question = question.text;
  sample.category = question.category;
  for (const auto& truth : question.truths) sample.truth += (sample.truth.empty() ? "" : " / ") + truth;
  for (const auto& cell : cells)
    sample.answers.push_back(
        {cell.cell, cell.task.answers[index], cell.task.credits.empty() ? std::nullopt : cell.task.credits[index]});
  add_picture(question, sample);
  return sample;
}

TaskSamples samples_of(const Outcomes& outcomes, const std::string& task, size_t count,
                       const std::map<std::string, TaskFactory>& extensions) {
  TaskSamples result{task, {}, ""};
  std::vector<CellAnswers> cells;
  for (const auto& cell : outcomes.cells)
    for (const RunOutcome* run : outcomes.of_cell(cell.name)) {
      const auto outcome =
          std::find_if(run->tasks.begin(), run->tasks.end(), [&](const TaskOutcome& one) { return one.task == task; });
      if (outcome == run->tasks.end()) continue;
      CellAnswers answers{cell.name, read_answered(*outcome, extensions)};
      if (answers.task.config.image != ShownImage::kReal) return result;
      if (cells.empty() || cells[0].task.answers.size() == answers.task.answers.size())
        cells.push_back(std::move(answers));
      break;
    }
  if (cells.empty()) return result;
  for (const size_t index : choose(cells, count)) result.samples.push_back(sample_of(cells, index));
  return result;
}

}  // namespace

std::vector<TaskSamples> pick_samples(const Outcomes& outcomes, size_t count,
                                      const std::map<std::string, TaskFactory>& extensions) {
  std::vector<TaskSamples> all;
  for (const auto& task : outcomes.tasks()) {
    try {
      all.push_back(samples_of(outcomes, task, count, extensions));
    } catch (const Error& error) {
      all.push_back({task, {}, error.what()});
    }
  }
  return all;
}

}  // namespace vlmamba::study
