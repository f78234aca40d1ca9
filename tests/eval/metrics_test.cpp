#include <gtest/gtest.h>

#include "tests/eval/fixtures.h"
#include "vlmamba/eval/metrics/answer_normaliser.h"
#include "vlmamba/eval/metrics/choice.h"
#include "vlmamba/eval/metrics/unicode_text.h"
#include "vlmamba/eval/metrics/vqa_accuracy.h"
#include "vlmamba/eval/metrics/yes_no.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/io/json_stream.h"

namespace vlmamba {
namespace {

TEST(Unicode, IsPythons) {
  EXPECT_EQ(unicode::lower("ÀÉ İ ΑΣ Σ ΑΣΑ"), "àé i̇ ας σ ασα");
  EXPECT_EQ(unicode::lower("Straße ŻÓŁW"), "straße żółw");
  EXPECT_EQ(unicode::strip("\xC2\xA0\x1F x y \xE3\x80\x80\n"), "x y");
  EXPECT_EQ(unicode::strip("\xE2\x80\x8B x"), "\xE2\x80\x8B x");  // a zero-width space is none
  EXPECT_EQ(unicode::split(" a\xC2\xA0"
                           "b\t\x1C"
                           "c "),
            (std::vector<std::string_view>{"a", "b", "c"}));
  EXPECT_EQ(unicode::length("aé東🦙"), 4);
  EXPECT_TRUE(unicode::digit_at("٣", 0));
  EXPECT_FALSE(unicode::digit_at("²", 0));  // a digit to some, not to \d
  EXPECT_FALSE(unicode::digit_at("3", 1));
}

TEST(Normaliser, DoesEveryStep) {
  EXPECT_EQ(evalai_normalised("The Two, dogs?"), "2 dogs");
  EXPECT_EQ(evalai_normalised("St. John's"), "st john 's");
  EXPECT_EQ(evalai_normalised("t-shirt"), "t shirt");
  EXPECT_EQ(evalai_normalised("t - shirt-s"), "t shirts");  // one mark next to a space and all vanish
  EXPECT_EQ(evalai_normalised("1.5 m."), "1.5 m");
  EXPECT_EQ(evalai_normalised("dont"), "don't");
  EXPECT_EQ(evalai_normalised("none\nof\tit"), "0 of it");
  EXPECT_EQ(evalai_normalised(std::string(40, '.')), std::string(8, '.'));  // 32 removals
  EXPECT_EQ(vqa_processed("10,000/x"), "10000x");  // a comma in a number makes all marks vanish
  EXPECT_EQ(vqa_processed("a/x,y"), "x y");
  EXPECT_EQ(vqa_processed("Im"), "im");  // the keys with capitals never match
  EXPECT_EQ(vqa_processed("John's"), "john's");
  EXPECT_EQ(vqa_stripped("\n Two\twords\n"), "Two words");
}

TEST(Normaliser, HasTheContractionsOfTheEvaluation) {
  EXPECT_EQ(contractions().size(), 120u);
  SKIP_WITHOUT_SHARED("normaliser");
  const auto table = io::read_json(test::shared("normaliser/contractions.json"), ExitCode::kData);
  for (const auto& [key, value] : table.members()) EXPECT_EQ(contractions().at(key), value.as_string());
}

TEST(Normaliser, AgreesWithEveryGolden) {
  SKIP_WITHOUT_SHARED("normaliser");
  const auto each = [](const std::string& name, const io::EachValue& check) {
    const std::string path = test::shared("normaliser/" + name);
    int64_t count = 0;
    io::for_each_line(io::read_file(path, ExitCode::kData), path, ExitCode::kData, [&](const auto& json, int64_t line) {
      check(json, line);
      ++count;
    });
    return count;
  };
  const auto text = [](const io::Json& json, const char* key) { return json.find(key)->as_string(); };
  EXPECT_EQ(each("cases.jsonl",
                 [&](const io::Json& json, int64_t line) {
                   EXPECT_EQ(evalai_normalised(text(json, "raw")), text(json, "evalai")) << line;
                   EXPECT_EQ(vqa_processed(text(json, "raw")), text(json, "vqa_official")) << line;
                 }),
            600);
  EXPECT_EQ(each("vizwiz_pairs.jsonl",
                 [&](const io::Json& json, int64_t line) {
                   EXPECT_EQ(evalai_normalised(text(json, "raw")), text(json, "normalised")) << line;
                 }),
            4000);
}

std::vector<HumanAnswer> people(const std::vector<std::string>& answers) {
  std::vector<HumanAnswer> result;
  for (const auto& answer : answers) result.push_back({answer, std::to_string(result.size())});
  return result;
}

TEST(VqaAccuracy, LeavesEveryPersonOutOnce) {
  const std::vector<std::string> two{"cat", "cat", "dog", "dog", "dog", "dog", "dog", "dog", "dog", "dog"};
  EXPECT_NEAR(vqa_accuracy("A cat.", people(two)), (2 * (1 / 3.0) + 8 * (2 / 3.0)) / 10, 1e-12);
  EXPECT_NEAR(textvqa_accuracy("A cat.", two), (2 * (1 / 3.0) + 8 * (2 / 3.0)) / 10, 1e-12);
  EXPECT_EQ(vqa_accuracy("dog", people(two)), 1);
  EXPECT_EQ(vqa_accuracy("bird", people(two)), 0);
}

TEST(VqaAccuracy, ProcessesOnlyWherePeopleDiffer) {
  const std::vector<std::string> same(10, "The Cat ");
  EXPECT_EQ(vqa_accuracy("cat", people(same)), 0);
  EXPECT_EQ(vqa_accuracy("\nThe Cat", people(same)), 1);
  EXPECT_EQ(textvqa_accuracy("cat", same), 1);
  auto one_differs = same;
  one_differs[3] = "dog";
  EXPECT_EQ(vqa_accuracy("cat", people(one_differs)), 1);
}

TEST(YesNo, IsReadAsPopeReadsIt) {
  EXPECT_EQ(pope_answer("No, there is none"), YesNo::kNo);
  EXPECT_EQ(pope_answer("There is not."), YesNo::kNo);
  EXPECT_EQ(pope_answer("Yes. No"), YesNo::kYes);
  EXPECT_EQ(pope_answer("NO"), YesNo::kYes);
  EXPECT_EQ(pope_answer("No\n"), YesNo::kYes);  // single spaces alone part words
  EXPECT_EQ(pope_answer(""), YesNo::kYes);
  EXPECT_EQ(pope_answer("n,o"), YesNo::kNo);
}

TEST(YesNo, IsReadAsMmeReadsIt) {
  EXPECT_EQ(mme_answer("YES"), YesNo::kYes);
  EXPECT_EQ(mme_answer(" yes!"), YesNo::kYes);
  EXPECT_EQ(mme_answer("  yes"), YesNo::kOther);
  EXPECT_EQ(mme_answer("Noyes"), YesNo::kNo);
  EXPECT_EQ(mme_answer("éénoo"), YesNo::kNo);  // characters, not bytes
  EXPECT_EQ(mme_answer("maybe"), YesNo::kOther);
  EXPECT_EQ(exact_yes_no(" Yes\n"), YesNo::kYes);
  EXPECT_EQ(exact_yes_no("yes."), YesNo::kOther);
}

TEST(YesNo, CountsAreZeroWhereNothingIsDivided) {
  YesNoCounts counts;
  EXPECT_EQ(counts.f1(), 0);
  counts.add(YesNo::kYes, true);
  counts.add(YesNo::kYes, false);
  counts.add(YesNo::kNo, true);
  EXPECT_EQ(counts.precision(), 0.5);
  EXPECT_EQ(counts.recall(), 0.5);
  EXPECT_NEAR(counts.accuracy(), 1 / 3.0, 1e-12);
}

TEST(Choice, IsReadAsScienceQaReadsIt) {
  EXPECT_EQ(scienceqa_letter("B"), 'B');
  EXPECT_EQ(scienceqa_letter("B. The war"), 'B');
  EXPECT_EQ(scienceqa_letter("The answer is G."), 'G');
  EXPECT_EQ(scienceqa_letter("So. The answer is C!"), 'C');
  EXPECT_EQ(scienceqa_letter("The answer is C"), std::nullopt);    // any character has to follow
  EXPECT_EQ(scienceqa_letter("The answer is C\n"), std::nullopt);  // but no line feed
  EXPECT_EQ(scienceqa_letter("The answer is A. The answer is B."), std::nullopt);
  EXPECT_EQ(scienceqa_letter("F"), std::nullopt);
  EXPECT_EQ(scienceqa_letter("B."), std::nullopt);
  EXPECT_EQ(scienceqa_letter(" B"), std::nullopt);
}

TEST(Choice, IsReadAsMmbenchReadsIt) {
  const std::vector<std::string> options{"a red car", "a blue car", "a tree"};
  EXPECT_EQ(mmbench_choice("B", options), 'B');
  EXPECT_EQ(mmbench_choice("(C).", options), 'C');
  EXPECT_EQ(mmbench_choice("D", options), std::nullopt);
  EXPECT_EQ(mmbench_choice("Z", options), 'Z');
  EXPECT_EQ(mmbench_choice("A is what I would say here", options), std::nullopt);  // too far from the end
  EXPECT_EQ(mmbench_choice("A or B", options), std::nullopt);
  EXPECT_EQ(mmbench_choice("It is surely not A but a BLUE car", options), 'B');  // "A" stands too far from the end
  EXPECT_EQ(mmbench_choice("surely a tree", options), 'C');
  EXPECT_EQ(mmbench_choice("a tree and a red car", options), std::nullopt);
  EXPECT_EQ(mmbench_choice("I can't process this file. B", options), 'Z');
  EXPECT_EQ(mmbench_choice(std::string(60, 'x') + " a tree", options), std::nullopt);  // too long
}

}  // namespace
}  // namespace vlmamba
