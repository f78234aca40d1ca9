#include "vlmamba/study/report.h"

#include <filesystem>

#include "src/study/page.h"
#include "src/study/samples.h"
#include "src/study/summary.h"
#include "vlmamba/io/atomic_file.h"

namespace vlmamba::study {
namespace {

constexpr size_t kSamples = 9;

}  // namespace

Report make_report(const Outcomes& outcomes, const std::map<std::string, TaskFactory>& extensions) {
  const Summary summary = summarise(outcomes);
  return {to_page(outcomes, summary, pick_samples(outcomes, kSamples, extensions)), to_csv(outcomes),
          to_markdown(outcomes, summary)};
}

void write_report(const Report& report, const std::string& path) {
  const std::filesystem::path html(path);
  io::write_file_atomically(path, report.html);
  io::write_file_atomically(std::filesystem::path(html).replace_extension(".csv").string(), report.csv);
  io::write_file_atomically(std::filesystem::path(html).replace_extension(".md").string(), report.markdown);
}

}  // namespace vlmamba::study
