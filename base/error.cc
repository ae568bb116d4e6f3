#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace base {

Error Error::from_errno(std::string operation, std::string subject, std::string advice) {
  const int code = errno;
  return Error(std::move(operation), code, std::move(subject), std::move(advice));
}

std::string errno_name(int code) {
  const char* name = strerrorname_np(code);
  return name != nullptr ? name : std::to_string(code);
}

std::string Error::message() const {
  std::string text = operation_;
  if (!subject_.empty()) {
    text += " '" + subject_ + "'";
  }
  if (code_ != 0) {
    text += std::string(": ") + strerrordesc_np(code_) + " (" + errno_name(code_) + ")";
  }
  if (!advice_.empty()) {
    text += "; " + advice_;
  }
  return text;
}

Error Error::within(std::string_view doing) && {
  operation_ = std::string(doing) + ": " + operation_;
  return std::move(*this);
}

tl::unexpected<Error> fail_errno(std::string operation, std::string subject) {
  const int code = errno;
  return fail(Error(std::move(operation), code, std::move(subject)));
}

tl::unexpected<Error> fail_because(std::string what, std::string advice) {
  return fail(Error::because(std::move(what), std::move(advice)));
}

}  // namespace base
