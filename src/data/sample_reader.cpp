#include "vlmamba/data/sample_reader.h"

#include "vlmamba/core/error.h"

namespace vlmamba {
namespace {

// Stops the run whatever is done with records that cannot be read.
class TooLong : public Error {
  using Error::Error;
};

}  // namespace

SampleReader::Result SampleReader::read(int64_t number) const try {
  Result result;
  const auto remark = [&](SampleFate fate, const std::string& text) {
    result.remark = {fate, result.remark.text.empty() ? text : result.remark.text + "; " + text};
  };
  const Record record = mended(records_(number), result.remark.text);
  Example example{record.id, record.source, reader_.tokenize(record), {}};
  const auto length = static_cast<int64_t>(example.sample.input_ids.size());
  const std::string limit = "batch.max_length (" + std::to_string(reader_.max_length) + ")";
  if (length > reader_.max_length) {
    if (policy_.on_too_long == OnTooLong::kError)
      throw TooLong(ExitCode::kData, "record " + record.id,
                    "expected at most " + limit + " positions, got " + std::to_string(length) +
                        "; data.on_too_long says whether it is cut or left out");
    const bool cut = policy_.on_too_long == OnTooLong::kTruncate;
    remark(cut ? SampleFate::kCut : SampleFate::kDropped, "record " + record.id + " has " + std::to_string(length) +
                                                              " positions, more than " + limit + ": " +
                                                              (cut ? "cut" : "left out"));
    if (!cut) return result;
    reader_.cut(example.sample, record);
  }
  if (!has_target(example.sample)) {
    remark(SampleFate::kUntrained, "record " + record.id + " has nothing to learn within " + limit + ": left out");
    return result;
  }
  example.pictures = reader_.read_pictures(record);
  result.example = std::move(example);
  return result;
} catch (const TooLong&) {
  throw;
} catch (const Error& error) {
  if (policy_.on_bad_sample == OnBadSample::kError || error.code() != ExitCode::kData) throw;
  return {std::nullopt, {SampleFate::kSkipped, std::string(error.what()) + ": skipped"}};
}

}  // namespace vlmamba
