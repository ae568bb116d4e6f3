// A directory of the test's own, removed with everything in it.
#pragma once

#include <fcntl.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "base/file.h"

namespace tests {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    char name[] = "/tmp/brood-test-XXXXXX";
    if (::mkdtemp(name) == nullptr) {
      throw std::runtime_error("mkdtemp");
    }
    path_ = name;
    fd_ = base::open_at(AT_FDCWD, path_, O_RDONLY | O_DIRECTORY).value();
  }
  ~ScratchDirectory() { (void)base::remove_tree_at(AT_FDCWD, path_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  base::UniqueFd fd_;
};

}  // namespace tests
