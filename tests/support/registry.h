// Debian's docker-registry, on a port of the loopback, with an image in it.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "tests/support/scratch.h"

namespace tests {

enum class Access { anybody, password };

// Skips the test where it, skopeo or umoci are not there.
class Registry {
 public:
  // With an image `one:tag` in it.
  explicit Registry(Access access);
  ~Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  std::string path(const std::string& name) const { return scratch_->path() + "/" + name; }
  std::string reference() const { return host_ + "/team/one:tag"; }
  const std::string& host() const { return host_; }
  // In the scratch folder.
  void shell(const std::string& script) const;
  // An image of an OCI layout; "layout:one".
  void push(const std::string& from, const std::string& to) const;

 private:
  int run(const std::string& script) const;
  bool try_push(const std::string& from, const std::string& to) const;
  void configure() const;
  void start();

  Access access_;
  std::optional<ScratchDirectory> scratch_;
  std::string host_;
  pid_t pid_ = -1;
};

}  // namespace tests
