#include "tests/soak/census.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "base/file.h"

namespace soak {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongest = 16 << 20;

std::string read(const std::string& path) {
  return base::read_file(path, kLongest).value_or("");
}

// The number behind "KEY:" or "KEY " at the start of a line.
std::uint64_t number_of(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, key.size(), key) == 0) {
      return std::strtoull(line.c_str() + key.size(), nullptr, 10);
    }
  }
  return 0;
}

std::uint64_t lines_of(const std::string& text) {
  return static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

std::uint64_t entries_of(const std::string& directory) {
  std::error_code ignored;
  const fs::directory_iterator begin(directory, ignored);
  return static_cast<std::uint64_t>(std::distance(begin, fs::directory_iterator()));
}

std::uint64_t cgroups_below(const std::string& path) {
  std::uint64_t count = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(path, ignored)) {
    if (entry.is_directory(ignored)) {
      count += 1 + cgroups_below(entry.path());
    }
  }
  return count;
}

std::uint64_t kib_of(const std::string& directory, const std::string& but) {
  std::uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    if (entry.path().filename() == but) {
      continue;
    }
    bytes +=
        entry.is_directory(ignored) ? kib_of(entry.path(), but) * 1024 : entry.file_size(ignored);
  }
  return bytes / 1024;
}

std::uint64_t descendants(pid_t root) {
  std::multimap<pid_t, pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (const std::string stat = pid > 0 ? read(entry.path() / "stat") : ""; !stat.empty()) {
      char state = 0;
      pid_t parent = 0;
      std::istringstream(stat.substr(stat.rfind(')') + 2)) >> state >> parent;
      children.emplace(parent, pid);
    }
  }
  std::vector<pid_t> found{root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [begin, end] = children.equal_range(found[i]);
    for (auto child = begin; child != end; ++child) {
      found.push_back(child->second);
    }
  }
  return found.size() - 1;
}

enum Row : std::size_t {
  rss,
  pss,
  descriptors,
  threads,
  mounts,
  cgroups,
  dying,
  processes,
  zygote_rss,
  state,
  logs,
  unreclaimable,
  net_namespaces,
  pid_namespaces,
  mount_objects,
  tasks
};

constexpr Row kObjects[] = {descriptors, threads, mounts, cgroups, processes};

std::string cell(std::uint64_t number) {
  char text[32];
  std::snprintf(text, sizeof text, " %9llu", static_cast<unsigned long long>(number));
  return text;
}

std::string padded(std::string text) {
  text.resize(std::max<std::size_t>(text.size(), 22), ' ');
  return text;
}

}  // namespace

Counts count(const Subject& subject) {
  const std::string agent = "/proc/" + std::to_string(subject.agent);
  const std::string status = read(agent + "/status");
  const std::string slab = read("/proc/slabinfo");
  Counts counts{};
  counts[rss] = number_of(status, "VmRSS:");
  // Not of files: what the agent's share of a library is depends on who else has it mapped.
  counts[pss] = number_of(read(agent + "/smaps_rollup"), "Pss_Anon:");
  counts[descriptors] = entries_of(agent + "/fd");
  counts[threads] = number_of(status, "Threads:");
  counts[mounts] = lines_of(read(agent + "/mountinfo"));
  counts[cgroups] = cgroups_below(subject.cgroup);
  counts[dying] = number_of(read(subject.cgroup + "/cgroup.stat"), "nr_dying_descendants ");
  counts[processes] = descendants(subject.agent);
  counts[zygote_rss] =
      number_of(read("/proc/" + std::to_string(subject.zygote) + "/status"), "VmRSS:");
  counts[state] = kib_of(subject.state_dir, "logs");
  counts[logs] = kib_of(subject.state_dir + "/logs", "");
  counts[unreclaimable] = number_of(read("/proc/meminfo"), "SUnreclaim:");
  counts[net_namespaces] = objects_in_use(slab, "net_namespace");
  counts[pid_namespaces] = objects_in_use(slab, "pid_namespace");
  counts[mount_objects] = objects_in_use(slab, "mnt_cache");
  counts[tasks] = objects_in_use(slab, "task_struct");
  return counts;
}

std::uint64_t objects_in_use(const std::string& slabinfo, const std::string& cache) {
  return number_of(slabinfo, cache + " ");
}

bool same_objects(const Counts& one, const Counts& other) {
  for (const Row row : kObjects) {
    if (one[row] != other[row]) {
      return false;
    }
  }
  return true;
}

std::vector<std::string> grown(const Counts& before, const Counts& after) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < kFigures; ++i) {
    const Growth& allowed = kCounted[i].allowed;
    const std::uint64_t most = before[i] + before[i] * allowed.percent / 100 + allowed.plus;
    if (after[i] > most) {
      lines.push_back(std::string(kCounted[i].name) + ": from " + std::to_string(before[i]) +
                      " to " + std::to_string(after[i]) + ", at most " + std::to_string(most) +
                      " (" + kCounted[i].reason + ")");
    }
  }
  return lines;
}

std::string table_of(const std::vector<Census>& all) {
  std::string text = padded("after invocations");
  for (const Census& census : all) {
    text += cell(census.invocations);
  }
  text += "  may grow by\n";
  for (std::size_t i = 0; i < kFigures; ++i) {
    text += padded(kCounted[i].name);
    for (const Census& census : all) {
      text += cell(census.counts[i]);
    }
    const Growth& allowed = kCounted[i].allowed;
    text += allowed.percent != 0 ? "  " + std::to_string(allowed.percent) + " % +" : "  ";
    text += (allowed.percent != 0 ? " " : "") + std::to_string(allowed.plus) + "\n";
  }
  return text;
}

}  // namespace soak
