#include "vlmamba/study/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/study/charts.h"
#include "src/study/markup.h"
#include "tests/study/evaluated_run.h"

namespace vlmamba::study {
namespace {

using test::Folder;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++found;
  return found;
}

// Two seeds of one cell, one of another, and a fourth run that is planned but not there.
Outcomes small_sweep(const Folder& folder) {
  const auto data = folder / "data";
  test::write_evaluated_run(data, folder / "cells/base/seed_1", 1, "1", {"yes", "yes", "no", "<no>", "yes"});
  test::write_evaluated_run(data, folder / "cells/base/seed_2", 2, "1", {"yes", "yes", "yes", "yes", "yes"});
  test::write_evaluated_run(data, folder / "cells/other/seed_1", 1, "2", {"no", "no", "no", "no", "yes"});
  test::write(folder / "published.json", R"({"source": "Table 3", "scores": {"other": {"tiny": 33.3}}})");
  test::write(folder / "sweep.json",
              R"({"title": "A <study>", "command": "vlmamba sweep --config 'x'", "published": ")" +
                  (folder / "published.json").string() + R"(",
    "cells": [{"name": "base", "settings": []}, {"name": "other", "settings": ["lr=2"]}],
    "runs": [{"cell": "", "seed": 1, "folder": "shared/align/seed_1"},
             {"cell": "base", "seed": 1, "folder": "cells/base/seed_1"}, {"cell": "base", "seed": 2, "folder": "cells/base/seed_2"},
             {"cell": "other", "seed": 1, "folder": "cells/other/seed_1"}, {"cell": "other", "seed": 2, "folder": "cells/other/seed_2"}],
    "tables": [{"title": "rates", "note": "", "rows": [{"label": "one", "cell": "base"}, {"label": "two|three", "cell": "other"}]}]})");
  return read_outcomes({folder.text()}, "");
}

TEST(Report, ShowsMeansDeviationsPublishedNumbersAndWhatIsMissing) {
  const Folder folder;
  const Report report = make_report(small_sweep(folder), {});
  // 60 and 100 percent: mean 80, sample deviation 28.28; 20 percent of one run.
  EXPECT_THAT(report.markdown, AllOf(HasSubstr("| one | **80.0 ± 28.3** | 1.500 ± 0.000 | 2 |"),
                                     HasSubstr("| two\\|three | 20.0 (paper 33.3) | 1.500 | 1 of 2 |"),
                                     HasSubstr("**Partial:** 3 of 4 runs"), HasSubstr("Table 3")));
  EXPECT_THAT(report.html, AllOf(HasSubstr("80.0 <span class=\"pm\">± 28.3</span>"), HasSubstr("paper 33.3"),
                                 HasSubstr("<b>Partial.</b> 3 of 4"), HasSubstr("not evaluated yet")));
  EXPECT_THAT(report.csv, AllOf(HasSubstr("base,1,tiny,score,60,c0ffee1,abc\n"),
                                HasSubstr("base,2,tiny,exact_match_by_category/even,50,")));
}

TEST(Report, IsOnePageThatTrustsNoText) {
  const Folder folder;
  const Report report = make_report(small_sweep(folder), {});
  EXPECT_THAT(report.html, AllOf(HasSubstr("A &lt;study&gt;"), HasSubstr("is it &lt;b&gt;"), HasSubstr("&lt;no&gt;"),
                                 Not(HasSubstr("<no>")), Not(HasSubstr("<b>0</b>"))));
  EXPECT_THAT(report.html, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("http://")), Not(HasSubstr("https://")),
                                 Not(HasSubstr("url(")), Not(HasSubstr("<link"))));
  EXPECT_EQ(count(report.html, "<img"), count(report.html, "src=\"data:image/png;base64,"));
  EXPECT_EQ(count(report.html, "<img"), 5u);
  EXPECT_EQ(count(report.html, "<svg"), count(report.html, "</svg>"));
  EXPECT_EQ(count(report.html, "<svg"), 3u);  // bars, and the losses of two stages
  EXPECT_THAT(report.html, AllOf(HasSubstr("yes ✓"), HasSubstr("no ✗")));
}

TEST(Report, RunsThatDifferInTheSeedAloneAreOneCell) {
  const Folder folder;
  small_sweep(folder);
  const auto outcomes =
      read_outcomes({(folder / "cells/base/seed_1").string(), (folder / "cells/base/seed_2/").string(),
                     (folder / "cells/other/seed_1").string()},
                    "");
  ASSERT_EQ(outcomes.cells.size(), 2u);
  EXPECT_EQ(outcomes.of_cell(outcomes.cells[0].name).size(), 2u);
  EXPECT_NE(outcomes.cells[0].name, outcomes.cells[1].name);
  EXPECT_THROW(read_outcomes({folder.text() + "/data"}, ""), Error);
}

TEST(Report, AnswersWhoseQuestionsAreGoneAreLeftOutAndSaid) {
  const Folder folder;
  const Outcomes outcomes = small_sweep(folder);
  test::fs::remove_all(folder / "data");
  EXPECT_THAT(make_report(outcomes, {}).html, AllOf(HasSubstr("No questions to show"), HasSubstr("80.0")));
}

TEST(Markup, EscapesWhateverBytesCome) {
  EXPECT_EQ(escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escaped("\xC3\xA9 \xE2\x9C\x93 \xF0\x9F\x99\x82"), "\xC3\xA9 \xE2\x9C\x93 \xF0\x9F\x99\x82");
  for (const char* broken : {"\xFF", "\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80", "\xE2\x9C", "\x01"})
    EXPECT_THAT(escaped(broken), AllOf(HasSubstr("\xEF\xBF\xBD"), Not(HasSubstr(broken)))) << broken;
  EXPECT_EQ(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
  EXPECT_EQ(decimals(-0.01, 1), "0.0");
}

TEST(Charts, TicksAreRoundAndEncloseTheValues) {
  EXPECT_THAT(round_ticks(0, 97, 5), ElementsAre(0, 20, 40, 60, 80, 100));
  EXPECT_THAT(round_ticks(0, 0.4, 4), ElementsAre(0, testing::DoubleNear(0.1, 1e-12), testing::DoubleNear(0.2, 1e-12),
                                                  testing::DoubleNear(0.3, 1e-12), testing::DoubleNear(0.4, 1e-12)));
  EXPECT_EQ(round_ticks(3, 3, 5).front(), 3);
  EXPECT_EQ(line_chart("nothing", "step", {{"a", {}, {}}}), "");
}

}  // namespace
}  // namespace vlmamba::study
