// SHA-256, by OpenSSL's libcrypto (which uses the processor's SHA extensions where there are any).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace base {

// Feeds bytes in pieces; `finish` gives the lower-case hexadecimal digest (64 characters) and may
// be called once.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::string_view bytes);
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view bytes);

}  // namespace base
