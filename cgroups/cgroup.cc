#include "cgroups/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "base/file.h"
#include "base/process.h"
#include "base/syscalls.h"

namespace cgroups {

using base::Result;
using base::Status;
using std::chrono::milliseconds;

namespace {

constexpr int kDirectory = O_PATH | O_DIRECTORY | O_NOFOLLOW;
constexpr int kMaxDepth = 64;  // far beyond any tree of ours; bounds the recursion

// seq files of the kernel are written in one go: a short write does not happen.
Status write_once(int fd, std::string_view text, const std::string& name) {
  if (::write(fd, text.data(), text.size()) < 0) {
    return base::fail_errno("write '" + std::string(text) + "' to", name);
  }
  return {};
}

bool is_directory(int parent_fd, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) {
    return entry.d_type == DT_DIR;
  }
  struct stat info {};
  return ::fstatat(parent_fd, entry.d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISDIR(info.st_mode);
}

// A pid may have been given to another process since it was read, so it is signalled through a
// pidfd and only while the frozen cgroup still lists it.
Status kill_listed(const Cgroup& cgroup) {
  BROOD_TRY(const std::vector<pid_t> listed, cgroup.procs());
  for (const pid_t pid : listed) {
    const base::PidRef process(pid, base::UniqueFd(base::pidfd_open(pid)));
    if (pid == 0 || !process) {
      continue;
    }
    BROOD_TRY(const std::vector<pid_t> still, cgroup.procs());
    if (std::find(still.begin(), still.end(), pid) != still.end()) {
      BROOD_CHECK(process.signal(SIGKILL));
    }
  }
  return {};
}

}  // namespace

bool is_child_name(std::string_view name) {
  return !name.empty() && name.size() <= 200 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

Result<Cgroup> Cgroup::open(const std::string& path) {
  BROOD_TRY(base::UniqueFd directory, base::open_at(AT_FDCWD, path, O_PATH | O_DIRECTORY));
  struct statfs info {};
  if (::fstatfs(directory.get(), &info) != 0) {
    return base::fail_errno("fstatfs", path);
  }
  if (info.f_type != CGROUP2_SUPER_MAGIC) {
    return base::fail_because("'" + path + "' is not a directory of cgroup v2",
                              "name a directory below the cgroup2 mount");
  }
  const std::size_t last = path.find_last_not_of('/');
  return Cgroup(std::move(directory), path.substr(0, last == std::string::npos ? 0 : last + 1));
}

Result<Cgroup> Cgroup::create(const std::string& name) const {
  if (!is_child_name(name)) {
    return base::fail_because("'" + name + "' is no name for a cgroup");
  }
  if (::mkdirat(fd(), name.c_str(), 0755) != 0) {
    return base::fail_errno("mkdir", path_ + "/" + name);
  }
  auto made = open_any_child(name);
  if (!made) {
    (void)::unlinkat(fd(), name.c_str(), AT_REMOVEDIR);  // nobody could remove it later
  }
  return made;
}

Result<Cgroup> Cgroup::open_child(const std::string& name) const {
  if (!is_child_name(name)) {
    return base::fail_because("'" + name + "' is no name for a cgroup");
  }
  return open_any_child(name);
}

Result<Cgroup> Cgroup::open_any_child(const std::string& name) const {
  auto directory = base::open_at(fd(), name, kDirectory);
  if (!directory) {
    return base::fail(with_path(directory.error()));
  }
  return Cgroup(std::move(*directory), path_ + "/" + name);
}

Result<std::vector<std::string>> Cgroup::children() const {
  auto readable = base::open_at(fd(), ".", O_RDONLY | O_DIRECTORY);
  if (!readable) {
    return base::fail(with_path(readable.error()));
  }
  const std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })> list(
      ::fdopendir(readable->get()));
  if (!list) {
    return base::fail_errno("fdopendir", path_);
  }
  (void)readable->release();  // the DIR closes it
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(list.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && is_directory(fd(), *entry)) {
      names.emplace_back(name);
    }
  }
  return names;
}

std::string Cgroup::name() const {
  return path_.substr(path_.rfind('/') + 1);
}

Result<ControllerSet> Cgroup::controllers() const {
  BROOD_TRY(const std::string text, read("cgroup.controllers"));
  return parse_controllers(text);
}

Result<ControllerSet> Cgroup::enabled() const {
  BROOD_TRY(const std::string text, read("cgroup.subtree_control"));
  return parse_controllers(text);
}

Status Cgroup::enable(Controller controller) const {
  return write("cgroup.subtree_control", "+" + std::string(controller_name(controller)));
}

Status Cgroup::disable(Controller controller) const {
  return write("cgroup.subtree_control", "-" + std::string(controller_name(controller)));
}

bool Cgroup::is_hierarchy_root() const {
  return ::faccessat(fd(), "cgroup.type", F_OK, 0) != 0 && errno == ENOENT;
}

Status Cgroup::add(pid_t pid) const {
  return write("cgroup.procs", count_text(static_cast<std::uint64_t>(pid)).view());
}

Status Cgroup::add_self() const {
  return write("cgroup.procs", "0");
}

Result<std::vector<pid_t>> Cgroup::procs() const {
  BROOD_TRY(const std::string text, read("cgroup.procs"));
  return parse_procs(text);
}

Status Cgroup::chown_procs(uid_t uid) const {
  constexpr gid_t kKeep = static_cast<gid_t>(-1);
  if (::fchownat(fd(), "cgroup.procs", uid, kKeep, AT_SYMLINK_NOFOLLOW) != 0) {
    return base::fail_errno("fchownat", path_ + "/cgroup.procs");
  }
  return {};
}

Result<ControllerSet> Cgroup::set_limits(const Limits& limits) const {
  ControllerSet unenforced;
  const auto put = [&](Controller controller, const char* file, std::string_view text) -> Status {
    BROOD_TRY(const bool written, write_if_exists(file, text));
    if (!written) {
      unenforced.add(controller);
    }
    return {};
  };
  if (limits.memory_bytes) {
    BROOD_CHECK(put(Controller::memory, "memory.max", count_text(*limits.memory_bytes).view()));
    BROOD_CHECK(put(Controller::memory, "memory.oom.group", "1"));
    // Missing where the kernel counts no swap, and then there is nothing to refuse.
    BROOD_CHECK(write_if_exists("memory.swap.max", "0"));
  }
  if (limits.milli_cpu) {
    BROOD_CHECK(put(Controller::cpu, "cpu.max", cpu_max_text(*limits.milli_cpu).view()));
  }
  if (limits.cpu_weight) {
    BROOD_CHECK(put(Controller::cpu, "cpu.weight", count_text(*limits.cpu_weight).view()));
  }
  if (limits.pids) {
    BROOD_CHECK(put(Controller::pids, "pids.max", count_text(*limits.pids).view()));
  }
  for (const IoLimit& limit : limits.io) {
    BROOD_CHECK(put(Controller::io, "io.max", io_max_text(limit).view()));
  }
  return unenforced;
}

Result<Usage> Cgroup::usage() const {
  const auto count = [this](const char* file) -> Result<std::optional<std::uint64_t>> {
    BROOD_TRY(const std::optional<std::string> text, read_if_exists(file));
    return text ? parse_count(*text) : std::nullopt;
  };
  Usage usage;
  BROOD_TRY(usage.cpu, cpu());
  BROOD_TRY(usage.memory_bytes, count("memory.current"));
  if (usage.memory_bytes) {
    BROOD_TRY(usage.memory_peak_bytes, count("memory.peak"));
    BROOD_TRY(const std::optional<std::string> events, read_if_exists("memory.events"));
    usage.memory_events = parse_memory_events(events.value_or(""));
  }
  BROOD_TRY(usage.pids, count("pids.current"));
  if (usage.pids) {
    BROOD_TRY(usage.pids_peak, count("pids.peak"));
    BROOD_TRY(const std::optional<std::string> events, read_if_exists("pids.events"));
    usage.pids_refused = find_key(events.value_or(""), "max");
  }
  return usage;
}

Result<CpuStat> Cgroup::cpu() const {
  BROOD_TRY(const std::string text, read("cpu.stat"));
  return parse_cpu_stat(text);
}

Result<Events> Cgroup::events() const {
  BROOD_TRY(const std::string text, read("cgroup.events"));
  return parse_events(text);
}

Result<bool> Cgroup::populated() const {
  BROOD_TRY(const Events now, events());
  return now.populated;
}

Result<base::UniqueFd> Cgroup::events_fd() const {
  auto file = base::open_at(fd(), "cgroup.events", O_RDONLY);
  if (!file) {
    return base::fail(with_path(file.error()));
  }
  return std::move(*file);
}

Result<bool> Cgroup::wait_until_empty(milliseconds limit) const {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  BROOD_TRY(const base::UniqueFd changes, events_fd());
  for (;;) {
    char text[256];
    const ssize_t got = ::pread(changes.get(), text, sizeof text, 0);
    if (got < 0) {
      if (errno == ENODEV) {  // removed meanwhile
        return true;
      }
      return base::fail_errno("read", path_ + "/cgroup.events");
    }
    if (!parse_events({text, static_cast<std::size_t>(got)}).populated) {
      return true;
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return false;
    }
    pollfd poll{.fd = changes.get(), .events = POLLPRI, .revents = 0};
    (void)::poll(&poll, 1, static_cast<int>(std::min(left, milliseconds(60'000)).count()));
  }
}

Status Cgroup::freeze(Freeze state) const {
  return write("cgroup.freeze", state == Freeze::frozen ? "1" : "0");
}

Status Cgroup::kill() const {
  BROOD_TRY(const bool written, write_if_exists("cgroup.kill", "1"));
  return written ? Status{} : kill_each_process();
}

Status Cgroup::kill_each_process() const {
  BROOD_CHECK(freeze(Freeze::frozen));
  Status killed = kill_members(0);
  BROOD_CHECK(freeze(Freeze::thawed));
  return killed;
}

Status Cgroup::kill_members(int depth) const {
  if (depth > kMaxDepth) {
    return base::fail(base::Error("kill", ELOOP, path_));
  }
  // Freezing is not instant: a process forked before it took hold shows in the next round.
  constexpr int kRounds = 100;
  for (int round = 0; round < kRounds; ++round) {
    BROOD_CHECK(kill_listed(*this));
    BROOD_TRY(const Events now, events());
    if (!now.populated || now.frozen) {
      break;
    }
    (void)::poll(nullptr, 0, 1);
  }
  BROOD_CHECK(kill_listed(*this));
  BROOD_TRY(const std::vector<std::string> names, children());
  for (const std::string& name : names) {
    BROOD_TRY(const Cgroup child, open_any_child(name));
    BROOD_CHECK(child.kill_members(depth + 1));
  }
  return {};
}

Result<Removed> Cgroup::remove() const {
  // By way of the directory itself: a cgroup cannot be renamed or moved to another parent.
  const std::string self = "../" + name();
  if (::unlinkat(fd(), self.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENODEV) {
    return Removed::yes;
  }
  if (errno == EBUSY) {
    return Removed::busy;
  }
  return base::fail_errno("rmdir", path_);
}

Result<Removed> Cgroup::remove_tree(milliseconds limit) const {
  BROOD_TRY(const Removed at_once, remove());
  if (at_once == Removed::yes) {
    return Removed::yes;
  }
  BROOD_CHECK(kill());
  BROOD_TRY(const bool empty, wait_until_empty(limit));
  if (!empty) {
    return Removed::busy;
  }
  return remove_empty_tree(0);
}

Result<Removed> Cgroup::remove_empty_tree(int depth) const {
  if (depth > kMaxDepth) {
    return base::fail(base::Error("rmdir", ELOOP, path_));
  }
  BROOD_TRY(const std::vector<std::string> names, children());
  for (const std::string& name : names) {
    BROOD_TRY(const Cgroup child, open_any_child(name));
    BROOD_TRY(const Removed removed, child.remove_empty_tree(depth + 1));
    if (removed == Removed::busy) {
      return removed;
    }
  }
  return remove();
}

Status Cgroup::write(const char* file, std::string_view text) const {
  BROOD_TRY(const bool written, write_if_exists(file, text));
  if (!written) {
    return base::fail(base::Error("openat", ENOENT, path_ + "/" + file));
  }
  return {};
}

Result<bool> Cgroup::write_if_exists(const char* file, std::string_view text) const {
  const base::UniqueFd opened(::openat(fd(), file, O_WRONLY | O_CLOEXEC));
  if (!opened) {
    if (errno == ENOENT) {
      return false;
    }
    return base::fail_errno("openat", path_ + "/" + file);
  }
  BROOD_CHECK(write_once(opened.get(), text, path_ + "/" + file));
  return true;
}

Result<std::string> Cgroup::read(const char* file) const {
  auto text = base::read_file_at(fd(), file, std::size_t{16} << 20);
  if (!text) {
    return base::fail(with_path(text.error()));
  }
  return std::move(*text);
}

Result<std::optional<std::string>> Cgroup::read_if_exists(const char* file) const {
  auto text = read(file);
  if (text) {
    return std::optional(std::move(*text));
  }
  if (text.error().code() == ENOENT) {
    return std::optional<std::string>();
  }
  return base::fail(std::move(text.error()));
}

base::Error Cgroup::with_path(const base::Error& error) const {
  return base::Error(error.operation(), error.code(), path_ + "/" + error.subject(),
                     error.advice());
}

}  // namespace cgroups
