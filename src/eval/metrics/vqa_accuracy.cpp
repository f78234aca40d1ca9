#include "vlmamba/eval/metrics/vqa_accuracy.h"

#include <algorithm>
#include <cstdint>

#include "vlmamba/eval/metrics/answer_normaliser.h"

namespace vlmamba {

double vqa_accuracy(std::string_view answer, const std::vector<HumanAnswer>& people) {
  std::vector<HumanAnswer> said = people;
  std::string given = vqa_stripped(answer);
  for (auto& person : said) person.text = vqa_stripped(person.text);
  const bool differ = std::any_of(said.begin(), said.end(), [&](const auto& a) { return a.text != said[0].text; });
  if (differ) {
    for (auto& person : said) person.text = vqa_processed(person.text);
    given = vqa_processed(given);
  }
  double sum = 0;
  for (const auto& left_out : said) {
    const auto matches = std::count_if(said.begin(), said.end(), [&](const HumanAnswer& other) {
      return other.text == given && (other.text != left_out.text || other.tag != left_out.tag);
    });
    sum += std::min(1.0, static_cast<double>(matches) / 3);
  }
  return said.empty() ? 0 : sum / static_cast<double>(said.size());
}

double textvqa_accuracy(std::string_view answer, const std::vector<std::string>& people) {
  const std::string given = evalai_normalised(answer);
  int64_t same = 0;
  std::vector<bool> agrees;
  for (const auto& person : people) {
    agrees.push_back(evalai_normalised(person) == given);
    same += agrees.back() ? 1 : 0;
  }
  double sum = 0;
  for (const bool left_out_agrees : agrees)
    sum += std::min(1.0, static_cast<double>(same - (left_out_agrees ? 1 : 0)) / 3);
  return people.empty() ? 0 : sum / static_cast<double>(people.size());
}

}  // namespace vlmamba
