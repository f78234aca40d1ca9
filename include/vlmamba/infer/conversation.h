#pragma once

#include <functional>
#include <string>
#include <vector>

#include "vlmamba/infer/responder.h"

namespace vlmamba {

/// Questions and answers that build on each other, about any number of pictures. An answer is the one that the same
/// conversation, read at once, has; what was read of it before is remembered, not read again.
class Conversation {
 public:
  /// Shows an answer while it is written; ends it by false. What was written until then stays part of the conversation.
  using Show = std::function<bool(const std::string&)>;

  /// A picture that the next question is about.
  void add_picture(PicturePtr picture) { waiting_.push_back(std::move(picture)); }
  /// Asks, and gives the answer. `<image>` in the question places the added pictures, else they stand before it. Throws
  /// Error (data) for another number of places; the conversation is then as it was.
  std::string ask(const Responder& responder, const std::string& question, const Show& show);
  /// Forgets everything.
  void reset() { *this = Conversation(); }

 private:
  Record record_;
  std::vector<PicturePtr> pictures_, waiting_;
};

}  // namespace vlmamba
