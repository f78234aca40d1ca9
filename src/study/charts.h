#pragma once

#include <string>
#include <utility>
#include <vector>

#include "vlmamba/study/statistics.h"

/// Charts as inline SVG. Colours are classes of the page's style sheet, one a series: they follow light and dark.
namespace vlmamba::study {

using Points = std::vector<std::pair<double, double>>;

struct LineSeries {
  std::string name;
  Points mean;
  std::vector<Points> single;  ///< faint, behind the mean
};

std::string line_chart(const std::string& label, const std::string& x_name, const std::vector<LineSeries>& series);

struct BarSeries {
  std::string name;
  std::vector<Spread> values;  ///< one for each group; a count of 0: no bar
};

/// Horizontal bars with whiskers of one standard deviation, in groups.
std::string bar_chart(const std::string& label, const std::vector<std::string>& groups,
                      const std::vector<BarSeries>& series);

/// The colours of a chart's series, by name.
std::string legend(const std::vector<std::string>& names);

/// At most about `wanted` round numbers from at or below `low` to at or above `high`.
std::vector<double> round_ticks(double low, double high, int wanted);

}  // namespace vlmamba::study
