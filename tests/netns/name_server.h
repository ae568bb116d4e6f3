// A name server of a test: answers on port 53 of a namespace what it was given, from a thread of
// its own, and keeps count of what it was asked.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace tests {

class NameServer {
 public:
  // By name: addresses, or "=NAME" for an alias. A name that is not there does not exist.
  using Zone = std::map<std::string, std::vector<std::string>>;
  NameServer(int netns_fd, Zone zone);
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  int asked(const std::string& name) const;
  int asked() const;
  void set(const std::string& name, std::vector<std::string> records);

 private:
  void serve();
  std::string answer(const std::string& question);

  base::UniqueFd socket_, wake_;
  mutable std::mutex mutex_;
  Zone zone_;
  std::map<std::string, int> asked_;
  std::thread thread_;
};

}  // namespace tests
