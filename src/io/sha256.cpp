#include "vlmamba/io/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <memory>

namespace vlmamba::io {
namespace {

constexpr size_t kStep = size_t{4} << 20;

// Hashes in parts; `done(begin, end)` is told of each.
template <typename Done>
std::string hash(std::string_view bytes, const Done& done) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  for (size_t at = 0; at < bytes.size(); at += kStep) {
    const auto part = bytes.substr(at, kStep);
    EVP_DigestUpdate(context.get(), part.data(), part.size());
    done(at, at + part.size());
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

}  // namespace

std::string sha256(std::string_view bytes) {
  return hash(bytes, [](size_t, size_t) {});
}

std::string sha256(const MappedFile& file) {
  return hash(file.bytes(), [&](size_t begin, size_t end) { file.release(begin, end); });
}

}  // namespace vlmamba::io
