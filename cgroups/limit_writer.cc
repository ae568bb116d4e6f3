#include "cgroups/limit_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace cgroups {

namespace {

base::Result<base::UniqueFd> open_if_exists(const Cgroup& cgroup, const char* name) {
  base::UniqueFd file(::openat(cgroup.fd(), name, O_WRONLY | O_CLOEXEC));
  if (!file && errno != ENOENT) {
    return base::fail_errno("openat", cgroup.path() + "/" + name);
  }
  return file;
}

}  // namespace

base::Result<LimitWriter> LimitWriter::open(const Cgroup& cgroup) {
  LimitWriter writer;
  BROOD_TRY(writer.memory_.fd, open_if_exists(cgroup, "memory.max"));
  BROOD_TRY(writer.cpu_.fd, open_if_exists(cgroup, "cpu.max"));
  BROOD_TRY(writer.weight_.fd, open_if_exists(cgroup, "cpu.weight"));
  BROOD_TRY(writer.pids_.fd, open_if_exists(cgroup, "pids.max"));
  return writer;
}

ControllerSet LimitWriter::missing() const {
  ControllerSet set;
  if (!memory_.fd) {
    set.add(Controller::memory);
  }
  if (!cpu_.fd) {
    set.add(Controller::cpu);
  }
  if (!pids_.fd) {
    set.add(Controller::pids);
  }
  return set;
}

template <typename Format>
base::Status LimitWriter::set(File& file, const char* name, std::uint64_t value, Format format) {
  if (!file.fd || file.written == value) {
    return {};
  }
  const ControlText text = format(value);
  if (::pwrite(file.fd.get(), text.view().data(), text.view().size(), 0) < 0) {
    return base::fail_errno("write '" + std::string(text.view()) + "' to", name);
  }
  file.written = value;
  return {};
}

base::Status LimitWriter::set_memory(std::uint64_t bytes) {
  return set(memory_, "memory.max", bytes, count_text);
}

base::Status LimitWriter::set_cpu(std::uint32_t milli_cpu) {
  return set(cpu_, "cpu.max", milli_cpu,
             [](std::uint64_t milli) { return cpu_max_text(static_cast<std::uint32_t>(milli)); });
}

base::Status LimitWriter::set_cpu_weight(std::uint32_t weight) {
  return set(weight_, "cpu.weight", weight, count_text);
}

base::Status LimitWriter::set_pids(std::uint64_t count) {
  return set(pids_, "pids.max", count, count_text);
}

}  // namespace cgroups
