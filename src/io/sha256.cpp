#include "vlmamba/io/sha256.h"

#include <openssl/evp.h>

#include <array>

namespace vlmamba::io {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) { EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr); }

Sha256::~Sha256() = default;

void Sha256::add(std::string_view bytes) { EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()); }

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(state_->context, digest.data(), &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.finish();
}

std::string sha256(const MappedFile& file) {
  constexpr size_t kPart = size_t{4} << 20;
  Sha256 hash;
  for (size_t at = 0; at < file.bytes().size(); at += kPart) {
    const auto part = file.bytes().substr(at, kPart);
    hash.add(part);
    file.release(at, at + part.size());
  }
  return hash.finish();
}

}  // namespace vlmamba::io
