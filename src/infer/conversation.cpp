#include "vlmamba/infer/conversation.h"

#include "vlmamba/core/text.h"
#include "vlmamba/infer/text_stream.h"

namespace vlmamba {

std::string Conversation::ask(const Responder& responder, const std::string& question, const Show& show) {
  Record record = record_;
  record.id = "conversation";
  record.turns.push_back({true, with_places(question, waiting_.size())});
  record.images.resize(pictures_.size() + waiting_.size());
  std::vector<PicturePtr> pictures = pictures_;
  pictures.insert(pictures.end(), waiting_.begin(), waiting_.end());
  std::string answer;
  TextStream stream(responder.tokenizer());
  bool wanted = true;
  const auto say = [&](const std::string& text) {
    answer += text;
    if (wanted && !text.empty()) wanted = show(text);
  };
  responder.continue_ids({responder.prompt_ids(record), pictures}, [&](int64_t id) {
    say(stream.add(id));
    return wanted;
  });
  say(stream.finish());
  record.turns.push_back({false, stripped(answer)});
  record_ = std::move(record);
  pictures_ = std::move(pictures);
  waiting_.clear();
  return answer;
}

}  // namespace vlmamba
