#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>

#include "src/eval/tasks/tasks.h"
#include "vlmamba/eval/metrics/choice.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/base64.h"
#include "vlmamba/io/spreadsheet.h"
#include "vlmamba/io/tsv.h"

namespace vlmamba::tasks {
namespace {

constexpr ExitCode kCode = ExitCode::kData;
constexpr int64_t kRotation = 1000000;
constexpr std::string_view kLetters = "ABCD";
constexpr const char* kRules = "rules";

// What pandas reads as a missing value.
constexpr std::array<std::string_view, 19> kMissing{"",     "#N/A",   "#N/A N/A", "#NA",  "-1.#IND", "-1.#QNAN", "-NaN",
                                                    "-nan", "1.#IND", "1.#QNAN",  "<NA>", "N/A",     "NA",       "NULL",
                                                    "NaN",  "None",   "n/a",      "nan",  "null"};

struct Row {
  int64_t index;
  std::string question;
  std::vector<std::string> options;
  char answer;
};

bool is_missing(const std::string& field) {
  const std::string small = unicode::lower(field);
  return std::find(kMissing.begin(), kMissing.end(), field) != kMissing.end() || small == "nan" || small == "none";
}

int64_t column(const io::Table& table, std::string_view name, const std::string& path) {
  const int64_t found = table.find(name);
  if (found < 0) throw Error(kCode, path + ":1", "expected the column " + std::string(name) + ", got none");
  return found;
}

Row row_of(const io::Table& table, const io::Table::Row& fields, const std::string& path, bool scored = true) {
  const std::string where = path + ":" + std::to_string(fields.line);
  const auto field = [&](std::string_view name) -> const std::string& {
    return fields.fields[static_cast<size_t>(column(table, name, path))];
  };
  Row row{0, field("question"), {}, 0};
  const std::string& index = field("index");
  const auto [end, error] = std::from_chars(index.data(), index.data() + index.size(), row.index);
  if (error != std::errc() || end != index.data() + index.size() || row.index < 0)
    throw Error(kCode, where, "index: expected an integer of at least 0, got \"" + index + "\"");
  for (const char& letter : kLetters) {
    const std::string_view name(&letter, 1);
    if (table.find(name) < 0 || is_missing(field(name))) break;
    row.options.push_back(field(name));
  }
  if (!scored) return row;
  const std::string& answer = field("answer");
  if (answer.size() != 1 || kLetters.find(answer) == std::string_view::npos)
    throw Error(kCode, where,
                "answer: expected a letter A to D, got \"" + answer +
                    "\"; without right answers only the benchmark's server can score");
  row.answer = answer[0];
  return row;
}

std::vector<Row> read_rows(const std::string& path) {
  const auto table = io::parse_tsv(io::read_file(path, kCode), path, kCode);
  std::vector<Row> rows;
  std::set<int64_t> seen;
  for (const auto& fields : table.rows) {
    rows.push_back(row_of(table, fields, path));
    if (!seen.insert(rows.back().index).second)
      throw Error(kCode, path + ":" + std::to_string(fields.line),
                  "index: expected each once, got " + std::to_string(rows.back().index) + " again");
  }
  if (rows.empty()) throw Error(kCode, path, "expected rows, got none");
  return rows;
}

// VLMEvalKit's question to its judge.
std::string judge_prompt(const Row& row, const std::string& answer) {
  std::string options = "There are several options: \n";
  for (size_t i = 0; i < row.options.size(); ++i) options += std::string(1, kLetters[i]) + ". " + row.options[i] + "\n";
  const std::string example =
      "Question: What is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\n";
  return "You are an AI assistant who will help me to match an answer with several options of a single-choice "
         "question. "
         "You are provided with a question, several options, and an answer, and you need to find which option is most "
         "similar to the answer. If the meaning of all options are significantly different from the answer, output Z. "
         "Your should output a single uppercase character in A, B, C, D (if they are valid options), and Z. \n"
         "Example 1: \n" +
         example +
         "Answer: a cute teddy bear\nYour output: A\n"
         "Example 2: \n" +
         example +
         "Answer: Spider\nYour output: Z\n"
         "Example 3: \nQuestion: " +
         row.question + "?\nOptions: " + options + "\nAnswer: " + answer + "\nYour output: ";
}

struct Circular {
  struct Group {
    int64_t rows = 0, right = 0;
  };
  std::map<int64_t, Group> groups;
  int64_t first_rows = 0, first_right = 0;
  std::map<char, int64_t> predictions;

  // Was the row answered rightly?
  bool add(const Row& row, std::optional<char> letter) {
    const bool right = letter == row.answer;
    auto& group = groups[row.index % kRotation];
    ++group.rows;
    group.right += right ? 1 : 0;
    if (row.index < kRotation) ++first_rows, first_right += right ? 1 : 0;
    ++predictions[letter.value_or('Z')];
    return right;
  }
  int64_t hits() const {
    return std::count_if(groups.begin(), groups.end(), [](const auto& g) { return g.second.right == g.second.rows; });
  }
  double percent() const { return 100 * static_cast<double>(hits()) / static_cast<double>(groups.size()); }
};

void append(const Circular& circular, int64_t rows, io::Json& metrics) {
  metrics.append("rows", rows);
  metrics.append("groups", static_cast<int64_t>(circular.groups.size()));
  metrics.append("hits", circular.hits());
  metrics.append("circular_eval", circular.percent());
  metrics.append("first_rotation_rows", circular.first_rows);
  metrics.append("first_rotation_accuracy", circular.first_rows == 0 ? 0.0
                                                                     : 100 * static_cast<double>(circular.first_right) /
                                                                           static_cast<double>(circular.first_rows));
  std::map<int64_t, int64_t> sizes;
  for (const auto& [index, group] : circular.groups) ++sizes[group.rows];
  for (const auto& [size, count] : sizes) metrics.append("group_sizes/" + std::to_string(size), count);
  for (const auto& [letter, count] : circular.predictions)
    metrics.append("predictions/" + std::string(1, letter), count);
}

ScoreResult score(const ScoreInput& input) {
  expect_form(input.answers, {AnswerForm::kLines, AnswerForm::kResults, AnswerForm::kMap});
  const auto rows = read_rows(input.data.at("questions"));
  std::vector<Asked> asked;
  for (const auto& row : rows) asked.push_back({std::to_string(row.index), row.question});
  ScoreResult result;
  const auto matched = match_answers(asked, input, result);
  Circular by_rules, by_judge;
  std::set<std::string> judges;
  int64_t undecided = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto letter = matched[i] ? mmbench_choice(matched[i]->text, rows[i].options) : std::optional('Z');
    by_rules.add(rows[i], letter);
    const auto judged = letter ? input.judgements.end() : input.judgements.find(asked[i].id);
    const bool is_judged = judged != input.judgements.end();
    if (is_judged) judges.insert(judged->second.judge);
    const bool right = by_judge.add(rows[i], is_judged ? mmbench_choice(judged->second.text, rows[i].options) : letter);
    if (matched[i]) give_credit(*matched[i], right ? 1 : 0, input, result);
    if (letter || is_judged) continue;
    ++undecided;
    result.judge_requests.push_back({asked[i].id, judge_prompt(rows[i], matched[i]->text)});
  }
  if (judges.size() > 1)
    throw Error(kCode, "judgements", "expected one judge, got " + *judges.begin() + " and " + *judges.rbegin());
  result.judge = judges.empty() ? kRules : *judges.begin();
  result.judge_call = {"gpt-3.5-turbo-0613", 16};
  result.score = by_judge.percent();
  append(by_judge, static_cast<int64_t>(rows.size()), result.metrics);
  if (!judges.empty()) result.metrics.append("rules/circular_eval", by_rules.percent());
  result.counts.set("undecided", undecided);
  return result;
}

std::string prompt_of(const std::string& hint, const Row& row, Protocol protocol) {
  std::string options;
  for (size_t i = 0; i < row.options.size(); ++i)
    options.append("\n").append(1, kLetters[i]).append(". " + row.options[i]);
  const std::string start = is_missing(hint) ? "" : hint;
  if (protocol == Protocol::kLmmsEval)
    return (start.empty() ? "" : start + " ") + row.question + " There are several options:" + options;
  return (start.empty() ? "" : start + "\n") + row.question + options;
}

// A row may name the row that has its picture.
std::string picture_of(const io::Table& table, const std::string& field, const std::string& where) {
  const auto index = static_cast<size_t>(table.find("index")), image = static_cast<size_t>(table.find("image"));
  const std::string* encoded = &field;
  if (!field.empty() && field.size() < 20 && field.find_first_not_of("0123456789") == std::string::npos)
    for (const auto& row : table.rows)
      if (row.fields[index] == field) encoded = &row.fields[image];
  auto bytes = io::decode_base64(*encoded);
  if (!bytes || bytes->empty()) throw Error(kCode, where, "image: expected a picture in base64, got something else");
  return std::move(*bytes);
}

std::vector<TaskQuestion> questions_of(const DataFiles& data, const AskOptions& options) {
  const std::string& path = data.at("questions");
  const auto table = io::parse_tsv(io::read_file(path, kCode), path, kCode);
  const auto image = static_cast<size_t>(column(table, "image", path));
  const int64_t hint = table.find("hint");
  std::vector<TaskQuestion> questions;
  for (const auto& fields : table.rows) {
    const Row row = row_of(table, fields, path, /*scored=*/false);
    TaskQuestion question;
    question.id = std::to_string(row.index);
    question.integer_id = true;
    question.picture = picture_of(table, fields.fields[image], path + ":" + std::to_string(fields.line));
    question.prompt = prompt_of(hint < 0 ? "" : fields.fields[static_cast<size_t>(hint)], row, options.protocol);
    question.text = question.prompt + kLetterSuffix;
    question.options = row.options;
    question.extra.append("round_id", 0);
    io::Json& texts = question.extra.append("options", io::Json::array());
    for (const auto& option : row.options) texts.push(option);
    io::Json& letters = question.extra.append("option_char", io::Json::array());
    for (size_t i = 0; i < row.options.size(); ++i) letters.push(std::string(1, kLetters[i]));
    questions.push_back(std::move(question));
  }
  return questions;
}

std::vector<std::string> picture_places(const std::string& image) { return {image}; }

// The server's sheet: the table without its long columns, and with what was predicted.
std::optional<Submission> submission_of(const DataFiles& data, const AnswerFile& answers) {
  constexpr std::array<std::string_view, 6> kDropped{"hint", "category", "source", "image", "comment", "l2-category"};
  constexpr size_t kPredictionColumn = 6;
  const std::string& path = data.at("questions");
  const auto table = io::parse_tsv(io::read_file(path, kCode), path, kCode);
  const auto index = static_cast<size_t>(column(table, "index", path));
  std::unordered_map<std::string, std::string> predictions;
  for (const auto& answer : answers.answers) predictions[answer.id] = answer.text;
  std::vector<std::vector<std::string>> sheet;
  const auto add = [&](const std::vector<std::string>& fields, const std::string& prediction) {
    auto& row = sheet.emplace_back();
    for (size_t i = 0; i < fields.size(); ++i)
      if (std::find(kDropped.begin(), kDropped.end(), table.columns[i]) == kDropped.end())
        row.push_back(&fields != &table.columns && is_missing(fields[i]) ? "" : fields[i]);
    row.insert(row.begin() + static_cast<std::ptrdiff_t>(std::min(kPredictionColumn, row.size())), prediction);
  };
  add(table.columns, "prediction");
  for (const auto& row : table.rows) add(row.fields, predictions[row.fields[index]]);
  return Submission{"submission.xlsx", io::to_xlsx(sheet, {"index"})};
}

}  // namespace

Benchmark mmbench() {
  return {"mmbench",
          "CircularEval accuracy, in percent",
          {{"questions", "*.tsv"}},
          score,
          {{"questions", "*.tsv"}},
          questions_of,
          picture_places,
          1024,
          submission_of};
}

}  // namespace vlmamba::tasks
