#include "src/study/charts.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/study/markup.h"

namespace vlmamba::study {
namespace {

constexpr int kColours = 8;
constexpr double kWidth = 560, kLineHeight = 260;
constexpr double kLeft = 46, kRight = 14, kTop = 10, kBottom = 34;
constexpr double kBar = 11, kBarGap = 2, kGroupGap = 10, kNames = 92, kValues = 78;

std::string number(double value) { return decimals(value, 1); }

std::string colour(size_t index) { return std::string("s").append(std::to_string(index % kColours)); }

// Enough decimals to tell neighbouring ticks apart.
std::string tick_text(double value, double step) {
  return decimals(value, step >= 1 ? 0 : std::min(6, static_cast<int>(std::ceil(-std::log10(step) - 1e-9))));
}

std::string open(double height, const std::string& label) {
  return "<svg viewBox=\"0 0 " + number(kWidth) + " " + number(height) + "\" role=\"img\" aria-label=\"" +
         escaped(label) + "\">\n";
}

std::string line(const char* style, double x1, double y1, double x2, double y2) {
  return std::string("<line class=\"") + style + "\" x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" +
         number(x2) + "\" y2=\"" + number(y2) + "\"/>\n";
}

std::string text(const char* anchor, double x, double y, const std::string& words, const char* style = "") {
  return std::string("<text class=\"") + style + "\" text-anchor=\"" + anchor + "\" x=\"" + number(x) + "\" y=\"" +
         number(y) + "\">" + escaped(words) + "</text>\n";
}

// From values to places.
struct Scale {
  double low, high, from, to;
  double operator()(double value) const {
    return high == low ? from : from + (value - low) / (high - low) * (to - from);
  }
};

struct Extent {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value), high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

std::string path(const Points& points, const Scale& x, const Scale& y, const std::string& style) {
  std::string steps;
  for (const auto& [px, py] : points)
    if (std::isfinite(py))
      steps.append(steps.empty() ? "M" : " L").append(number(x(px))).append(" ").append(number(y(py)));
  return steps.empty() ? "" : "<path class=\"" + style + "\" d=\"" + steps + "\"/>\n";
}

}  // namespace

std::vector<double> round_ticks(double low, double high, int wanted) {
  if (!(high > low)) high = low + (low == 0 ? 1 : std::fabs(low));
  const double rough = (high - low) / wanted, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double share = rough / power;
  const double step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  std::vector<double> ticks;
  const auto first = static_cast<int64_t>(std::floor(low / step + 1e-9));
  const auto last = static_cast<int64_t>(std::ceil(high / step - 1e-9));
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string line_chart(const std::string& label, const std::string& x_name, const std::vector<LineSeries>& series) {
  Extent xs, ys;
  for (const auto& one : series) {
    for (const auto& [x, y] : one.mean) xs.add(x), ys.add(y);
    for (const auto& points : one.single)
      for (const auto& [x, y] : points) xs.add(x), ys.add(y);
  }
  if (xs.empty() || ys.empty()) return "";
  const auto x_ticks = round_ticks(0, xs.high, 6), y_ticks = round_ticks(std::min(0.0, ys.low), ys.high, 5);
  const Scale x{0, xs.high, kLeft, kWidth - kRight}, y{y_ticks.front(), y_ticks.back(), kLineHeight - kBottom, kTop};
  std::string svg = open(kLineHeight, label);
  for (const double tick : y_ticks) {
    svg += line("grid", kLeft, y(tick), kWidth - kRight, y(tick));
    svg += text("end", kLeft - 6, y(tick) + 4, tick_text(tick, y_ticks[1] - y_ticks[0]));
  }
  for (const double tick : x_ticks)
    if (tick <= xs.high)
      svg += text("middle", x(tick), kLineHeight - kBottom + 16, tick_text(tick, x_ticks[1] - x_ticks[0]));
  svg += text("end", kWidth - kRight, kLineHeight - 3, x_name, "axis");
  for (size_t i = 0; i < series.size(); ++i)
    for (const auto& points : series[i].single) svg += path(points, x, y, "curve faint " + colour(i));
  for (size_t i = 0; i < series.size(); ++i) svg += path(series[i].mean, x, y, "curve " + colour(i));
  return svg + "</svg>\n";
}

std::string bar_chart(const std::string& label, const std::vector<std::string>& groups,
                      const std::vector<BarSeries>& series) {
  double most = 0;
  for (const auto& one : series)
    for (const auto& value : one.values) most = std::max(most, value.mean + value.deviation);
  if (groups.empty() || series.empty() || most <= 0) return "";
  const auto ticks = round_ticks(0, most, 5);
  const double group = static_cast<double>(series.size()) * (kBar + kBarGap) + kGroupGap;
  const double bottom = kTop + static_cast<double>(groups.size()) * group;
  const Scale x{0, ticks.back(), kNames, kWidth - kValues};
  std::string svg = open(bottom + 20, label);
  for (const double tick : ticks) {
    svg += line("grid", x(tick), kTop - 4, x(tick), bottom);
    svg += text("middle", x(tick), bottom + 15, tick_text(tick, ticks[1] - ticks[0]));
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const double top = kTop + static_cast<double>(g) * group;
    svg += text("end", kNames - 8, top + (group - kGroupGap) / 2 + 4, groups[g], "name");
    for (size_t i = 0; i < series.size(); ++i) {
      const Spread& value = series[i].values[g];
      if (value.count == 0) continue;
      const double bar_top = top + static_cast<double>(i) * (kBar + kBarGap), middle = bar_top + kBar / 2;
      svg += "<rect class=\"bar " + colour(i) + "\" x=\"" + number(kNames) + "\" y=\"" + number(bar_top) +
             "\" width=\"" + number(std::max(0.0, x(value.mean) - kNames)) + "\" height=\"" + number(kBar) +
             "\" rx=\"1.5\"><title>" + escaped(series[i].name + ", " + groups[g] + ": " + decimals(value.mean, 1)) +
             "</title></rect>\n";
      double end = x(value.mean);
      if (value.count > 1) {
        end = x(value.mean + value.deviation);
        svg += line("whisker", x(std::max(0.0, value.mean - value.deviation)), middle, end, middle);
      }
      svg += text("start", end + 5, middle + 3.5, decimals(value.mean, 1), "value");
    }
  }
  return svg + "</svg>\n";
}

std::string legend(const std::vector<std::string>& names) {
  std::string html = "<p class=\"legend\">";
  for (size_t i = 0; i < names.size(); ++i)
    html += "<span><i class=\"" + colour(i) + "\"></i>" + escaped(names[i]) + "</span>";
  return html + "</p>\n";
}

}  // namespace vlmamba::study
