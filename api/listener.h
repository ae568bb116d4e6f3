// The socket file that clients find the agent by. Blocking, for start and stop only.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/error.h"
#include "base/fd.h"

namespace api {

// A listening Unix stream socket, non-blocking, and its file, which is removed on destruction
// unless it has meanwhile been replaced by another agent's.
class Listener {
 public:
  // Makes the parent directory (0755) where it is missing. A file left by an agent that is gone is
  // replaced; one that is answered ("another agent is running on …") or that is no socket is
  // refused. The file is 0660 and belongs to `group`, where the host has that group, from the
  // moment that it can be seen under its name.
  static base::Result<Listener> open(const std::string& path, const std::string& group);

  Listener(Listener&&) noexcept = default;
  Listener& operator=(Listener&&) noexcept = delete;
  ~Listener();

  int fd() const { return socket_.get(); }
  // The socket stays open; nobody finds it any more.
  void remove_file();

 private:
  Listener(base::UniqueFd socket, std::string path, dev_t device, ino_t inode);

  base::UniqueFd socket_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace api
