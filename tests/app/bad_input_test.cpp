#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/app/tiny_run.h"

namespace vlmamba {
namespace {

using test::TinyRun;
using testing::AllOf;
using testing::HasSubstr;

struct BadConfig {
  std::string setting, message;
};

class Settings : public testing::TestWithParam<BadConfig> {};

TEST_P(Settings, AreRefusedBeforeAnythingIsWritten) {
  const TinyRun tiny;
  const auto outcome = tiny.train({GetParam().setting});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_FALSE(test::fs::exists(tiny.run()));
}

INSTANTIATE_TEST_SUITE_P(
    Config, Settings,
    testing::Values(
        BadConfig{"sead=1", "did you mean \"seed\"?"}, BadConfig{"seed=-1", "seed: expected at least 0, got"},
        BadConfig{"seed=one", "seed: expected an integer"},
        BadConfig{"stages.align.optimizer.beta2=1", "expected at least 0 and below 1, got"},
        BadConfig{"model.language_model.vocab_size=9223372036854775807", "expected at least 1 and at most 16777216"},
        BadConfig{"model.language_model.num_layers=1000000000000", "expected at least 1 and at most 10000, got"},
        BadConfig{"model.connector.vss.expand=1000000000", "expected at least 1 and at most 1048576"},
        BadConfig{"stages.align.epochs=1e300", "expected at least 0 and at most 100000, got"},
        BadConfig{"stages.align.steps=9223372036854775807", "expected at least 0 and at most 1000000000"},
        BadConfig{"tokenizer=", "tokenizer: expected a tokenizer.json"},
        BadConfig{"stages.align.trainable=[]", "stages.align.trainable: expected at least one part, got none"},
        BadConfig{"stages.align.trainable=[\"projector\"]",
                  "expected vision_encoder, connector or language_model, got \"projector\""},
        BadConfig{"stages.align.name=in/struct", "expected letters, digits, _ and -"},
        BadConfig{"stages.align.name=instruct", "expected names that differ"},
        BadConfig{"stages.align.name=eval", "not \"eval\""}, BadConfig{"stages.align.name=parts", "\"parts\""},
        BadConfig{"stages.train.steps=3", "expected one of align, instruct, got \"train\""},
        BadConfig{"stages.align.batch.micro_batch=3", "micro_batch: expected a divisor of global_batch (8), got 3"},
        BadConfig{"stages.align.batch.max_length=1", "expected at least 2"},
        BadConfig{"stages.align.data.sets=[]", "data.sets: expected at least one set of records"},
        BadConfig{"stages.align.validate_every=2", "expected 0 without data.validation_records"},
        BadConfig{"stages.align.optimizer.learning_rate=1", "here it is called optimizer.lr"},
        BadConfig{"stages.align.optimizer.lr=-1", "expected at least 0"},
        BadConfig{"stages.align.optimizer.parts.projector.lr=1",
                  "optimizer.parts: expected vision_encoder, connector or language_model"},
        BadConfig{"stages.align.schedule.kind=cosin", "expected cosine | linear | constant, got \"cosin\""},
        BadConfig{"stages.align.schedule.warmup_ratio=2", "at most 1"},
        BadConfig{"model.connector.kind=qformer", "expected one of mlp, vss_mlp, vss_l2, got \"qformer\""},
        BadConfig{"model.connector.vss.scan=zigzag", "expected none | forward | bidirectional | cross, got \"zigzag\""},
        BadConfig{"model.connector.vss.merge=max", "expected sum | mean | concat"},
        BadConfig{"model.connector.vss.d_state=0", "expected at least 1"},
        BadConfig{"model.vision_encoder.num_heads=3", "num_heads] expected a divisor of hidden_size (8), got 3"},
        BadConfig{"model.vision_encoder.patch_size=9", "patch_size] expected at most image_size (8), got 9"},
        BadConfig{"model.vision_encoder.feature_layer=9",
                  "feature_layer] expected an index into 3 hidden states, got 9"},
        BadConfig{"model.vision_encoder.kind=dino", "expected clip | siglip, got \"dino\""},
        BadConfig{"image_processor.size=9",
                  "image_processor.size: expected model.vision_encoder.image_size (8), got 9"},
        BadConfig{"image_processor.mean=[0.5]", "expected 3 values, got 1"},
        BadConfig{"image_processor.mode=stretch", "expected squash | crop | pad, got \"stretch\""},
        BadConfig{"prompt.template=v2", "expected plain | v1 | v1_neox, got \"v2\""},
        BadConfig{"eval.tasks.tiny.questions=", "eval.tasks.tiny.questions: expected a file, got none"},
        BadConfig{"eval.tasks.tiny.image=grey", "expected real | blank | shuffled, got \"grey\""},
        BadConfig{"eval.sampling.top_p=1.5", "at most 1"}));

struct BadData {
  std::string what, records, message;
};

class DataFiles : public testing::TestWithParam<BadData> {};

TEST_P(DataFiles, AreNamedWithTheRecord) {
  const TinyRun tiny;
  test::write(tiny.data + "/records.json", GetParam().records);
  test::write(tiny.data + "/images/torn.png", test::read(tiny.data + "/images/0.png").substr(0, 60));
  test::write(tiny.data + "/images/empty.jpg", "");
  test::write(tiny.data + "/images/page.jpg", "<html>not found</html>");
  const auto outcome = tiny.train();
  EXPECT_EQ(outcome.code, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(GetParam().message));
  EXPECT_FALSE(test::fs::exists(tiny.run() + "/align/checkpoints"));
}

std::string one(const std::string& rest) { return R"([{"id": "a", )" + rest + "}]"; }
std::string turns(const std::string& question, const std::string& answer) {
  return R"("conversations": [{"from": "human", "value": ")" + question + R"("}, {"from": "gpt", "value": ")" + answer +
         R"("}])";
}

INSTANTIATE_TEST_SUITE_P(
    Data, DataFiles,
    testing::Values(
        BadData{"empty file", "", "records.json"}, BadData{"cut off", R"([{"id": "a", "conv)", "records.json:1:"},
        BadData{"object", "{}", "expected an array of records, got an object"},
        BadData{"no records", "[]", "expected more records than data.validation_records (0), got 0"},
        BadData{"number", "[7]", "record 0] expected an object"}, BadData{"two values", "[] []", "records.json:1:"},
        BadData{"no conversations", one(R"("image": "images/0.png")"), "conversations"},
        BadData{"conversations of text", one(R"("conversations": "hi")"), "conversations"},
        BadData{"no turns", one(R"("conversations": [])"),
                "conversations: expected a question and an answer, got none"},
        BadData{"who is bot",
                one(R"("conversations": [{"from": "human", "value": "q"}, {"from": "bot", "value": "a"}])"),
                "from: expected human or gpt, got \"bot\""},
        BadData{"no value", one(R"("conversations": [{"from": "human"}])"), "value"},
        BadData{"two questions",
                one(R"("conversations": [{"from": "human", "value": "q"}, {"from": "human", "value": "q"}])"),
                "expected human and gpt in turn"},
        BadData{"unanswered", one(R"("conversations": [{"from": "human", "value": "q"}])"),
                "record a] expected an answer to every question"},
        BadData{"id is a list", R"([{"id": [1], )" + turns("q", "a") + "}]", "id: expected a string or an integer"},
        BadData{"image is a number", one(R"("image": 5, )" + turns("<image>\\nq", "a")), "image: expected a path"},
        BadData{"missing picture", one(R"("image": "images/none.png", )" + turns("<image>\\nq", "a")),
                "none.png] expected a file, got no such file"},
        BadData{"picture is a folder", one(R"("image": "images", )" + turns("<image>\\nq", "a")),
                "images] expected a file, got something else"},
        BadData{"torn picture", one(R"("image": "images/torn.png", )" + turns("<image>\\nq", "a")),
                "torn.png] expected a whole PNG"},
        BadData{"empty picture", one(R"("image": "images/empty.jpg", )" + turns("<image>\\nq", "a")), "empty.jpg]"},
        BadData{"web page", one(R"("image": "images/page.jpg", )" + turns("<image>\\nq", "a")),
                "page.jpg] expected JPEG, PNG, WebP or GIF"},
        BadData{"no picture", one(turns("<image>\\nq", "a")), "record a] expected a picture for its <image>, got none"},
        BadData{"pictures beyond the end",
                one(R"("image": "images/0.png", )" + turns(std::string(200, '7') + "<image>", "a")),
                "record a has nothing to learn"},
        BadData{"duplicate key", R"([{"id": "a", "id": "b", )" + turns("q", "a") + "}]", "id"}),
    [](const auto& info) {
      std::string name = info.param.what;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

TEST(BadInput, AQuestionFileIsNamedWithItsLine) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  for (const auto& [line, message] :
       {std::pair<std::string, std::string>{"{\"question_id\": 7}", "text"},
        {"{\"text\": \"q\", \"answer\": \"a\"}", "question_id"},
        {"{\"question_id\": 1, \"text\": 5, \"answer\": \"a\"}", "text"},
        {"{\"question_id\": 0, \"text\": \"q\", \"answer\": \"a\"}",
         "question_id: expected each once, got 0 again after line 1"},
        {"{\"question_id\": 1, \"text\": \"q\", \"answer\": \"a\", \"image\": 5}", "image: expected a string, got a"},
        {"{\"question_id\": 1, \"text\": \"q\", \"answer\": \"a\", \"category\": [1]}",
         "category: expected a string, got an array"},
        {"[1, 2]", "expected an object"},
        {"{", "questions.jsonl:2"}}) {
    const std::string good = "{\"question_id\": 0, \"text\": \"q\", \"answer\": \"a\"}\n";
    test::write(tiny.data + "/questions.jsonl", good + line + "\n");
    const auto outcome = test::vlmamba({"evaluate", "--checkpoint", tiny.run()});
    EXPECT_EQ(outcome.code, 3);
    EXPECT_THAT(outcome.err, AllOf(HasSubstr("questions.jsonl:2"), HasSubstr(message))) << line;
  }
}

TEST(BadInput, TokenizerAndWeightsAreNamed) {
  const TinyRun tiny;
  const auto expect = [&](const std::string& setting, int code, const std::string& message) {
    const auto outcome = tiny.train({setting});
    EXPECT_EQ(outcome.code, code) << setting;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_FALSE(test::fs::exists(tiny.run() + "/config.json"));
  };
  test::write(tiny.folder / "bad.json", "{}");
  test::write(tiny.folder / "bad.safetensors", "short");
  const std::string here = tiny.folder.text() + "/";
  expect("tokenizer=" + here + "none.json", 4, "none.json] expected a file");
  expect("tokenizer=" + here + "bad.json", 4, "bad.json");
  expect("model.language_model.vocab_size=100", 4,
         "expected at most model.language_model.vocab_size (100) ids, got 465");
  expect("model.connector.pretrained=" + here + "none.safetensors", 4, "none.safetensors");
  expect("model.connector.pretrained=" + here + "bad.safetensors", 4, "bad.safetensors");
  ASSERT_EQ(tiny.train({}, "other").code, 0);
  expect("model.connector.pretrained=" + tiny.run("other") + "/align/checkpoints/step_00000005/model.safetensors", 4,
         "unexpected   connector.linear_in.bias");
}

TEST(BadInput, ADamagedCheckpointIsNotUsed) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const std::string step = tiny.run() + "/instruct/checkpoints/step_00000005";
  const std::string weights = test::read(step + "/model.safetensors");
  test::write(step + "/model.safetensors", weights.substr(0, weights.size() - 8));
  const auto outcome = test::vlmamba({"inspect", step});
  EXPECT_EQ(outcome.code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("model.safetensors"));
  EXPECT_EQ(test::vlmamba({"generate", "--checkpoint", step, "--prompt", "hi"}).code, 4);
  EXPECT_EQ(test::vlmamba({"generate", "--checkpoint", tiny.run("nowhere"), "--prompt", "hi"}).code, 4);
}

TEST(BadInput, APromptIsCheckedBeforeItIsAnswered) {
  const TinyRun tiny;
  ASSERT_EQ(tiny.train().code, 0);
  const auto expect = [&](std::vector<std::string> more, const std::string& message) {
    more.insert(more.begin(), {"generate", "--checkpoint", tiny.run()});
    const auto outcome = test::vlmamba(more);
    EXPECT_EQ(outcome.code, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
  };
  const std::string picture = tiny.data + "/images/1.png";
  expect({"--prompt", "q", "--temperature", "nan"}, "--temperature");
  expect({"--prompt", "q", "--temperature", "inf"}, "--temperature");
  expect({"--prompt", "q", "--top-p", "nan"}, "--top-p");
  expect({"--prompt", "q", "--seed", "-1"}, "--seed");
  expect({"--prompt-ids", ""}, "--prompt-ids");
  expect({"--prompt", "<image> and <image>?", "--image", picture}, "expected 1 <image>, one for each --image");
  expect({"--prompt", "<image>?"}, "expected 0 <image>");
}

TEST(BadInput, NonFiniteLossStopsBeforeTheWeightsChange) {
  const TinyRun tiny;
  const auto outcome = tiny.train({"stages.align.optimizer.lr=1e30", "stages.align.schedule.kind=constant",
                                   "stages.align.schedule.warmup_ratio=0", "stages.align.optimizer.clip=0"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("stage align, step"), HasSubstr("expected a finite number"), HasSubstr("samples: r")));
}

TEST(BadInput, APathThatCannotBeUsedIsNamed) {
  const auto outcome = test::vlmamba({"inspect", std::string(300, 'a')});
  EXPECT_EQ(outcome.code, 6);
  EXPECT_THAT(outcome.err, HasSubstr("a] expected a path that can be used"));
}

TEST(BadInput, TheCommandLineIsExplained) {
  EXPECT_EQ(test::vlmamba({}).code, 2);
  EXPECT_EQ(test::vlmamba({"trian"}).code, 2);
  EXPECT_EQ(test::vlmamba({"train"}).code, 2);
  EXPECT_EQ(test::vlmamba({"train", "--config", "/nowhere.json"}).code, 2);
  EXPECT_EQ(test::vlmamba({"generate", "--checkpoint", "x"}).code, 2);
  EXPECT_EQ(test::vlmamba({"--help"}).code, 0);
  for (const std::string command : {"train", "evaluate", "generate", "chat", "inspect", "tokenize", "reference"}) {
    const auto help = test::vlmamba({command, "--help"});
    EXPECT_EQ(help.code, 0);
    EXPECT_THAT(help.out, HasSubstr("--help"));
  }
}

}  // namespace
}  // namespace vlmamba
