// Errors as values: what was tried, on what, what the kernel said, and what to do about it.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace base {

// One failure. Prints as
//   openat 'memory.max': Permission denied (EACCES); run the agent as root
// `code` is an errno value, or 0 where no system call was refused (bad input, a broken rule).
class [[nodiscard]] Error {
 public:
  Error(std::string operation, int code, std::string subject = {}, std::string advice = {})
      : operation_(std::move(operation)),
        code_(code),
        subject_(std::move(subject)),
        advice_(std::move(advice)) {}

  // Captures errno: call it on the line after the failed call, before anything that may change
  // errno.
  static Error from_errno(std::string operation, std::string subject = {}, std::string advice = {});

  // A failure without an errno: `what` is the whole sentence.
  static Error because(std::string what, std::string advice = {}) {
    return Error(std::move(what), 0, {}, std::move(advice));
  }

  const std::string& operation() const { return operation_; }
  int code() const { return code_; }
  const std::string& subject() const { return subject_; }
  const std::string& advice() const { return advice_; }
  std::string message() const;

  // The same error with advice for whoever will read it.
  Error advise(std::string advice) && {
    advice_ = std::move(advice);
    return std::move(*this);
  }
  // The same error with what was being done put in front: "start runtime python3: …".
  Error within(std::string_view doing) &&;

 private:
  std::string operation_;
  int code_;
  std::string subject_;
  std::string advice_;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}
// `return fail_errno("openat", path)`: captures errno.
tl::unexpected<Error> fail_errno(std::string operation, std::string subject = {});
// `return fail_because("…")`: no errno.
tl::unexpected<Error> fail_because(std::string what, std::string advice = {});

// The symbolic name of an errno value ("EACCES"), or its number where it has none.
std::string errno_name(int code);

}  // namespace base

// Returns early with the error of `expression`; otherwise declares or assigns `target` from its
// value.
// NOLINTBEGIN(bugprone-macro-parentheses): a declaration cannot stand in parentheses
#define BROOD_CONCAT_(a, b) a##b
#define BROOD_CONCAT(a, b) BROOD_CONCAT_(a, b)
#define BROOD_TRY_(name, target, expression)                   \
  auto name = (expression);                                    \
  if (!(name)) return ::base::fail(std::move((name).error())); \
  target = std::move(*(name))
#define BROOD_TRY(target, expression) \
  BROOD_TRY_(BROOD_CONCAT(brood_try_, __LINE__), target, expression)
// The same for an expression without a value.
#define BROOD_CHECK(expression)                             \
  do {                                                      \
    if (auto brood_status = (expression); !brood_status)    \
      return ::base::fail(std::move(brood_status.error())); \
  } while (false)
// NOLINTEND(bugprone-macro-parentheses)
