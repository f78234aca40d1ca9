#include "vlmamba/study/answered_task.h"

#include "vlmamba/eval/answer_file.h"
#include "vlmamba/io/config.h"

namespace vlmamba::study {
namespace {

using io::Json;

TaskConfig config_of(const TaskOutcome& outcome) {
  const std::string where = outcome.folder + "/results.json";
  const Json* eval = outcome.provenance.find("eval");
  const Json* tasks = eval ? eval->find("tasks") : nullptr;
  if (tasks)
    for (const auto& task : tasks->items())
      if (const Json* name = task.find("name"); name && name->is_string() && name->as_string() == outcome.task)
        return io::from_json<TaskConfig>(task, where);
  throw Error(ExitCode::kData, where, "provenance.eval: expected the task " + outcome.task + ", got none");
}

}  // namespace

AnsweredTask read_answered(const TaskOutcome& outcome, const std::map<std::string, TaskFactory>& extensions) {
  AnsweredTask answered;
  answered.config = config_of(outcome);
  const auto task = make_task(answered.config, extensions);
  answered.questions = task->questions();
  const AnswerFile file = read_answers(outcome.folder + "/answers.jsonl");
  if (file.answers.size() > answered.questions.size())
    throw Error(ExitCode::kData, file.path,
                "expected at most " + std::to_string(answered.questions.size()) + " answers, got " +
                    std::to_string(file.answers.size()) + "; are the questions others now?");
  answered.questions.resize(file.answers.size());
  for (size_t i = 0; i < file.answers.size(); ++i) {
    if (file.answers[i].id != answered.questions[i].id)
      throw Error(ExitCode::kData, place_of(file, file.answers[i]),
                  "question_id: expected " + answered.questions[i].id + ", got " + file.answers[i].id +
                      "; are the questions others now?");
    answered.answers.push_back(file.answers[i].text);
  }
  answered.credits = task->score(answered.questions, file).credits;
  if (answered.credits.size() != answered.answers.size()) answered.credits.clear();
  return answered;
}

}  // namespace vlmamba::study
