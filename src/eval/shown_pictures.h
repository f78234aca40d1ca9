#pragma once

#include <string>
#include <vector>

#include "vlmamba/eval/task.h"
#include "vlmamba/infer/responder.h"

namespace vlmamba {

/// Which picture each question of a task shows: its own, a blank one, or another question's.
class ShownPictures {
 public:
  /// All of these must outlive it.
  ShownPictures(const TaskConfig& config, const std::vector<TaskQuestion>& questions, const Responder& responder);

  /// Throws Error (data) naming the first file that is not there.
  void expect_files() const;
  /// Equal for questions that show the same picture; empty for those that show none.
  const std::string& name(size_t question) const { return names_[question]; }
  /// All questions, those of a picture one behind the other, pictures in the order of their first question.
  std::vector<size_t> order() const;
  /// The pictures, processed; the latest is remembered. Throws Error (data).
  std::vector<PicturePtr> pictures(size_t question);

 private:
  const TaskConfig& config_;
  const std::vector<TaskQuestion>& questions_;
  const Responder& responder_;
  std::vector<size_t> shown_;  // the question whose picture is shown
  std::vector<std::string> names_;
  std::string latest_name_;
  PicturePtr latest_;
};

}  // namespace vlmamba
