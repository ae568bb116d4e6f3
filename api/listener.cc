#include "api/listener.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/file.h"

namespace api {
namespace {

using base::Result;
using base::Status;
using base::UniqueFd;

constexpr int kBacklog = 1024;
constexpr mode_t kSocketMode = 0660;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return base::fail_because("socket path '" + path + "' is longer than " +
                                  std::to_string(sizeof address.sun_path - 1) + " bytes",
                              "choose a shorter one");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> make_socket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) {
    return base::fail_errno("socket AF_UNIX");
  }
  return socket;
}

// Success when the path is free, or holds the socket of an agent that is gone.
Status check_vacant(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status() : base::fail_errno("lstat", path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return base::fail_because("'" + path + "' exists and is not a socket",
                              "move it away or choose another socket path");
  }
  BROOD_TRY(const sockaddr_un address, address_of(path));
  BROOD_TRY(const UniqueFd probe, make_socket());
  const int connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  // EAGAIN is a listener whose backlog is full: alive, and busy.
  if (connected == 0 || errno == EAGAIN) {
    return base::fail_because(
        "another agent is running on '" + path + "'",
        "stop it, or give this one a socket and a state directory of its own");
  }
  return errno == ECONNREFUSED ? Status() : base::fail_errno("connect", path);
}

Result<std::optional<gid_t>> find_group(const std::string& name) {
  std::vector<char> buffer(16384);
  struct group entry {};
  struct group* found = nullptr;
  if (const int code = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
      code != 0) {
    return base::fail(base::Error("look up group", code, name));
  }
  return found == nullptr ? std::optional<gid_t>() : std::optional<gid_t>(entry.gr_gid);
}

Status give_to_group(const std::string& path, const std::string& group) {
  BROOD_TRY(const std::optional<gid_t> gid, find_group(group));
  if (gid && ::chown(path.c_str(), static_cast<uid_t>(-1), *gid) != 0) {
    return base::fail_errno("chown", path);
  }
  if (::chmod(path.c_str(), kSocketMode) != 0) {
    return base::fail_errno("chmod", path);
  }
  return {};
}

// bind(2) makes the file with the umask's mode; this process has one thread when it starts.
Status bind_unseen(int socket, const std::string& path) {
  BROOD_TRY(const sockaddr_un address, address_of(path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return base::fail_errno("unlink", path);
  }
  const mode_t before = ::umask(0177);
  const int bound = ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int code = errno;
  ::umask(before);
  return bound == 0 ? Status() : base::fail(base::Error("bind", code, path));
}

Status listen_as(int socket, const std::string& hidden, const std::string& path,
                 const std::string& group) {
  BROOD_CHECK(bind_unseen(socket, hidden));
  BROOD_CHECK(give_to_group(hidden, group));
  if (::listen(socket, kBacklog) != 0) {
    return base::fail_errno("listen", path);
  }
  if (::rename(hidden.c_str(), path.c_str()) != 0) {
    return base::fail_errno("rename", path);
  }
  return {};
}

std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<Listener> Listener::open(const std::string& path, const std::string& group) {
  if (path.empty() || path.front() != '/') {
    return base::fail_because("socket path '" + path + "' is not absolute");
  }
  BROOD_CHECK(base::make_directories(parent_of(path), 0755));
  BROOD_CHECK(check_vacant(path));
  BROOD_TRY(UniqueFd socket, make_socket());
  // Bound under another name and renamed: a client never sees a file that does not listen yet or
  // that is open to more users than it will be.
  const std::string hidden = path + ".new";
  if (auto listening = listen_as(socket.get(), hidden, path, group); !listening) {
    (void)::unlink(hidden.c_str());
    return base::fail(std::move(listening.error()));
  }
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return base::fail_errno("lstat", path);
  }
  return Listener(std::move(socket), path, info.st_dev, info.st_ino);
}

Listener::Listener(UniqueFd socket, std::string path, dev_t device, ino_t inode)
    : socket_(std::move(socket)), path_(std::move(path)), device_(device), inode_(inode) {}

Listener::~Listener() {
  if (socket_) {
    remove_file();
  }
}

void Listener::remove_file() {
  struct stat info {};
  if (::lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ && info.st_ino == inode_) {
    (void)::unlink(path_.c_str());
  }
}

}  // namespace api
