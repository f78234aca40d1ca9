#include <ATen/ATen.h>

#include <array>
#include <memory>

#include "src/app/commands/commands.h"
#include "vlmamba/app/build.h"
#include "vlmamba/io/atomic_file.h"
#include "vlmamba/model/weights.h"

namespace vlmamba::app {
namespace {

using at::Tensor;

struct Options {
  std::string checkpoint, input, output, dtype = "float32";
  std::optional<int64_t> layer;
};

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 3> kTypes{
    {{"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}}};

// The tensors of the input file; those that a model does not read are errors.
struct Input {
  Tensor pixel_values, input_ids, attention_mask;
};

[[noreturn]] void refuse(const std::string& where, const std::string& message) {
  throw Error(ExitCode::kData, where, message);
}

// 1 where a position counts, 0 where it pads its row on either side.
Tensor checked_mask(const Input& input, const std::string& where) {
  if (!input.input_ids.defined() || !input.attention_mask.sizes().equals(input.input_ids.sizes()))
    refuse(where, "expected the shape of input_ids");
  const Tensor mask = input.attention_mask.to(at::kDouble);
  if ((mask.ne(0) & mask.ne(1)).any().item<bool>()) refuse(where, "expected values of 0 and 1, got others");
  const Tensor begins = at::diff(mask, 1, 1, at::zeros({mask.size(0), 1}, mask.options())).gt(0).sum(1);
  if (begins.gt(1).any().item<bool>()) refuse(where, "expected padding at the ends of a row, got it in between");
  return mask.to(at::kLong);
}

Input read_input(const std::string& path) {
  const io::WeightFiles file(path);
  Input input;
  for (const auto& tensor : file.tensors()) {
    Tensor* known = tensor.name == "pixel_values"     ? &input.pixel_values
                    : tensor.name == "input_ids"      ? &input.input_ids
                    : tensor.name == "attention_mask" ? &input.attention_mask
                                                      : nullptr;
    if (known == nullptr)
      refuse(path, "expected pixel_values, input_ids and attention_mask, got \"" + tensor.name + "\"");
    *known = read_tensor(tensor);
  }
  const auto check = [&](const Tensor& tensor, const char* name, int64_t rank) {
    if (tensor.defined() && tensor.dim() != rank)
      refuse(path + ": " + name,
             "expected " + std::to_string(rank) + " dimensions, got " + std::to_string(tensor.dim()));
  };
  check(input.pixel_values, "pixel_values", 4);
  check(input.input_ids, "input_ids", 2);
  check(input.attention_mask, "attention_mask", 2);
  if (input.pixel_values.defined() && !input.pixel_values.is_floating_point())
    refuse(path + ": pixel_values", "expected normalised pixels of a floating type, got integers");
  if (input.pixel_values.defined() && !input.pixel_values.to(at::kFloat).isfinite().all().item<bool>())
    refuse(path + ": pixel_values", "expected finite values, got NaN or infinity");
  if (input.input_ids.defined()) {
    if (!c10::isIntegralType(input.input_ids.scalar_type(), /*includeBool=*/false))
      refuse(path + ": input_ids", "expected integers, got another type");
    input.input_ids = input.input_ids.to(at::kLong);
  }
  if (input.attention_mask.defined()) input.attention_mask = checked_mask(input, path + ": attention_mask");
  return input;
}

// What the model does not read would be ignored in silence.
void expect_none(const Tensor& tensor, const char* name, const std::string& model) {
  if (tensor.defined()) refuse(name, "expected none for " + model + ", got " + io::shape_text(tensor.sizes().vec()));
}

const Tensor& wanted(const Tensor& tensor, const char* name, const Options& options) {
  if (!tensor.defined()) refuse(options.input, "expected the tensor " + std::string(name) + ", got none");
  return tensor;
}

void check_pixels(const Tensor& pixels, int64_t size) {
  if (pixels.size(1) != 3 || pixels.size(2) != size || pixels.size(3) != size)
    refuse("pixel_values", "expected [I, 3, " + std::to_string(size) + ", " + std::to_string(size) + "], got " +
                               io::shape_text(pixels.sizes().vec()));
}

void check_ids(const Tensor& ids, int64_t rows, bool pictures) {
  const Tensor wrong = (ids.lt(0) | ids.ge(rows)) & (pictures ? ids.ne(kImageToken) : at::ones_like(ids, at::kBool));
  if (wrong.any().item<bool>())
    refuse("input_ids", "expected ids of 0 to " + std::to_string(rows - 1) +
                            (pictures ? ", or -200 for a picture" : "") + ", got " +
                            std::to_string(ids.masked_select(wrong)[0].item<int64_t>()));
}

// A picture's -200 becomes as many as it has patches, in every row; rows are padded on the right.
void expand_pictures(Input& input, int64_t patches) {
  const int64_t pictures = input.pixel_values.defined() ? input.pixel_values.size(0) : 0;
  const auto places = input.input_ids.eq(kImageToken).sum().item<int64_t>();
  if (places == pictures * patches) return;
  if (places != pictures)
    refuse("input_ids", "expected -200 once a picture (" + std::to_string(pictures) + ") or once a patch (" +
                            std::to_string(pictures * patches) + "), got " + std::to_string(places));
  if (!input.attention_mask.defined()) input.attention_mask = at::ones_like(input.input_ids);
  std::vector<Tensor> rows, masks;
  int64_t longest = 0;
  for (int64_t row = 0; row < input.input_ids.size(0); ++row) {
    const Tensor times = at::where(input.input_ids[row].eq(kImageToken), patches, 1);
    rows.push_back(input.input_ids[row].repeat_interleave(times));
    masks.push_back(input.attention_mask[row].repeat_interleave(times));
    longest = std::max(longest, rows.back().size(0));
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    const int64_t missing = longest - rows[row].size(0);
    rows[row] = at::constant_pad_nd(rows[row], {0, missing});
    masks[row] = at::constant_pad_nd(masks[row], {0, missing});
  }
  input.input_ids = at::stack(rows);
  input.attention_mask = at::stack(masks);
}

// None where nothing is masked.
Tensor sequences_of(const Tensor& mask) {
  if (!mask.defined() || mask.ne(0).all().item<bool>()) return {};
  return at::where(mask.ne(0), 0, -1).to(at::kInt);
}

NamedTensors run_foreign(const ForeignModel& model, Input& input, at::ScalarType type, const Options& options) {
  if (model.vision_encoder) {
    const Tensor& pixels = wanted(input.pixel_values, "pixel_values", options);
    expect_none(input.input_ids, "input_ids", "an encoder alone");
    check_pixels(pixels, model.vision_config.image_size);
    return {{"features", model.vision_encoder->forward(pixels.to(type))}};
  }
  const Tensor& ids = wanted(input.input_ids, "input_ids", options);
  expect_none(input.pixel_values, "pixel_values", "a language model alone");
  check_ids(ids, model.language_config.embedding_rows(), false);
  const auto& language = *model.language_model;
  return {{"logits", language.head(language.forward(language.embed(ids), sequences_of(input.attention_mask)))}};
}

NamedTensors run_whole(const LoadedModel& loaded, Input& input, const Options& options) {
  wanted(input.input_ids, "input_ids", options);
  check_ids(input.input_ids, loaded.config.model.language_model.embedding_rows(), true);
  if (input.pixel_values.defined()) check_pixels(input.pixel_values, loaded.config.model.vision_encoder.image_size);
  expand_pictures(input, loaded.model->vision_encoder->num_patches());
  Batch batch;
  batch.input_ids = input.input_ids;
  batch.pixel_values = input.pixel_values;
  batch.seq_idx = sequences_of(input.attention_mask);
  return {{"logits", loaded.model->logits(batch)}};
}

// Positions that pad a row may hold anything.
void check_finite(const std::string& name, const Tensor& output, const Input& input, const Options& options) {
  Tensor finite = output.isfinite().all(-1);
  if (name == "logits" && input.attention_mask.defined()) finite = finite | input.attention_mask.eq(0);
  const auto wrong = finite.logical_not().sum().item<int64_t>();
  if (wrong > 0)
    throw Error(ExitCode::kNonFinite, options.output + ": " + name,
                "expected finite values, got NaN or infinity at " + std::to_string(wrong) + " of " +
                    std::to_string(finite.numel()) + " positions; " + cause_of_non_finite(options.checkpoint));
}

ExitCode forward(const Options& options, const Extensions& extensions) {
  LoadOptions load;
  for (const auto& [name, type] : kTypes)
    if (name == options.dtype) load.type = type;
  load.feature_layer = options.layer;
  load.padded_logits = true;
  Input input = read_input(options.input);
  const at::NoGradGuard no_grad;
  NamedTensors outputs;
  if (const auto foreign = load_foreign(options.checkpoint, load))
    outputs = run_foreign(*foreign, input, load.type, options);
  else
    outputs = run_whole(load_checkpoint(options.checkpoint, extensions, {}, load), input, options);
  for (auto& [name, tensor] : outputs) tensor = tensor.to(at::kFloat);
  io::write_file_atomically(options.output, tensors_to_safetensors(outputs));
  for (const auto& [name, tensor] : outputs) check_finite(name, tensor, input, options);
  return ExitCode::kOk;
}

}  // namespace

Command add_forward(CLI::App& app, const Extensions& extensions) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "forward", "Compute features or logits of tensors from a file, to compare them with another program's");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "a run, a step folder, or a folder of Hugging Face or mamba_ssm")
      ->required();
  command
      ->add_option("--input", options->input,
                   "safetensors: pixel_values [I,3,H,W] for an encoder; input_ids [B,L] and, if wanted, attention_mask "
                   "for a language model; all for a whole model, -200 once a picture or once a patch")
      ->required();
  command->add_option("--output", options->output, "safetensors, fp32: features [I,P,D] or logits [B,L,rows]")
      ->required();
  command->add_option(
      "--layer", options->layer,
      "index into Hugging Face's hidden_states whose patches are the features; -2 for an encoder alone");
  command->add_option("--dtype", options->dtype, "float32, bfloat16 or float16")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}))
      ->capture_default_str();
  return {command, [options, &extensions] { return forward(*options, extensions); }};
}

}  // namespace vlmamba::app
