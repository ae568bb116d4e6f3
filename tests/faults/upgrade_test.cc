// The agent is upgraded in place while clients ask: its programs and what runs in sandboxes are
// replaced under its feet, it is told to stop, and the new one takes over its state directory. Each
// invocation that was begun is answered, by the right one.
#include <signal.h>
#include <stdlib.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <set>
#include <thread>

#include "tests/support/agent_fixture.h"
#include "tests/support/host.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

// Says in its log that it began, so that one that went unanswered can be told from one that never
// was.
constexpr std::string_view kNap =
    "import time\n"
    "def main(event, context):\n"
    "    print('began ' + event)\n"
    "    time.sleep(0.05)\n"
    "    return event\n";
constexpr int kClients = 4;

// A copy of the programs, and of what runs in sandboxes, that can be replaced. The environment
// names it while this lives.
class Installed {
 public:
  Installed() {
    replace();
    ::setenv("BROOD_BIN_DIR", bin().c_str(), 1);
    ::setenv("BROOD_SUPPORT_DIR", support().c_str(), 1);
  }
  ~Installed() {
    for (const auto& [name, value] : before_) {
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
  }
  Installed(const Installed&) = delete;
  Installed& operator=(const Installed&) = delete;

  // As a package manager does it: each file anew beside the old one, and renamed into its place.
  void replace() const {
    for (const char* program : {"broodd", "brood-unpack"}) {
      install(from_bin_ + "/" + program, bin() + "/" + program);
    }
    for (const auto& entry : fs::recursive_directory_iterator(from_support_)) {
      if (entry.is_regular_file()) {
        install(entry.path(), support() / fs::relative(entry.path(), from_support_));
      }
    }
  }

 private:
  static void install(const fs::path& from, const fs::path& to) {
    fs::create_directories(to.parent_path());
    fs::copy_file(from, to.string() + ".new", fs::copy_options::overwrite_existing);
    fs::rename(to.string() + ".new", to);
  }
  static std::optional<std::string> variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  }
  std::string bin() const { return scratch_.path() + "/bin"; }
  fs::path support() const { return scratch_.path() + "/lib"; }

  ScratchDirectory scratch_;
  std::string from_bin_ = bin_dir();
  std::string from_support_ = support_dir();
  std::map<std::string, std::optional<std::string>> before_{
      {"BROOD_BIN_DIR", variable("BROOD_BIN_DIR")},
      {"BROOD_SUPPORT_DIR", variable("BROOD_SUPPORT_DIR")}};
};

// Clients that ask all the time, and note what became of it.
class Clients {
 public:
  explicit Clients(const AgentFixture& agent) : agent_(agent) {
    for (int i = 0; i < kClients; ++i) {
      threads_.emplace_back([this, i] { run(i % 2 == 0 ? "warm" : "cold", i); });
    }
  }
  ~Clients() { finish(); }
  Clients(const Clients&) = delete;
  Clients& operator=(const Clients&) = delete;

  void finish() {
    stop_ = true;
    for (std::thread& thread : threads_) {
      thread.join();
    }
    threads_.clear();
  }
  void agent_stops(bool stops) { stopping_ = stops; }
  std::size_t answered() const { return answered_; }
  // After `finish`.
  const std::vector<std::string>& wrongs() const { return wrongs_; }
  const std::set<std::string>& unanswered(const std::string& function) {
    return unanswered_[function];
  }

 private:
  void run(const std::string& function, int client) {
    HttpClient connection = agent_.client();
    for (int i = 0; !stop_; ++i) {
      const std::string tag = function + "-" + std::to_string(client) + "-" + std::to_string(i);
      const bool stopping_before = stopping_;
      try {
        const Response answer =
            connection.ask("POST", "/functions/" + function + "/invocations", Json(tag).dump(),
                           "Content-Type: application/json\r\n");
        if (answer.status == 200 && answer.body == Json(tag).dump()) {
          ++answered_;
          continue;
        }
        const bool refused = answer.status == 503 &&
                             Json::parse(answer.body)["error"]["code"] == "draining" &&
                             (stopping_before || stopping_);
        note(function, tag, refused ? "" : tag + ": " + answer.body);
      } catch (const std::exception& error) {
        connection = agent_.client();
        note(function, tag,
             stopping_before || stopping_ ? "" : tag + ": no answer: " + error.what());
      }
      std::this_thread::sleep_for(5ms);
    }
  }
  void note(const std::string& function, const std::string& tag, const std::string& wrong) {
    const std::lock_guard lock(mutex_);
    unanswered_[function].insert(tag);
    if (!wrong.empty()) {
      wrongs_.push_back(wrong);
    }
  }

  const AgentFixture& agent_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<std::size_t> answered_{0};
  std::mutex mutex_;
  std::vector<std::string> wrongs_;
  std::map<std::string, std::set<std::string>> unanswered_;
  std::vector<std::thread> threads_;
};

// Each client has had answers since.
bool goes_on(const Clients& clients) {
  const std::size_t before = clients.answered();
  return soon([&] { return clients.answered() >= before + 20; });
}

TEST_CASE("an agent upgraded in place under load answers whatever was begun") {
  const Installed installed;
  AgentFixture agent({.pool_min = 2, .pool_max = 4});
  agent.deploy("warm", kNap, {{"idle", "5s"}});
  agent.deploy("cold", kNap, {{"reuse", false}});
  Clients clients(agent);
  CHECK(goes_on(clients));
  constexpr int kUpgrades = 3;
  for (int upgrade = 1; upgrade <= kUpgrades; ++upgrade) {
    CAPTURE(upgrade);
    installed.replace();
    // The old agent goes on with what is new: sandboxes, zygotes, uploads.
    CHECK(goes_on(clients));
    REQUIRE(signal_process(agent.runtime()["zygote_pid"], SIGKILL));
    CHECK(soon([&] { return agent.runtime()["zygote_restarts"] == 1; }));
    CHECK(goes_on(clients));
    agent.deploy("new-" + std::to_string(upgrade), kNap);
    clients.agent_stops(true);
    agent.stop();
    agent.start();
    CHECK(agent.invoke("new-" + std::to_string(upgrade), "there").ok());
    clients.agent_stops(false);
    CHECK(goes_on(clients));
  }
  clients.finish();
  CHECK(clients.wrongs() == std::vector<std::string>{});
  std::size_t without = 0;
  for (const std::string function : {"warm", "cold"}) {
    std::set<std::string> begun_in_vain;
    for (const Json& line : agent.logs(function, 10000)) {
      const std::string text = line["text"];
      if (text.starts_with("began ") && clients.unanswered(function).contains(text.substr(6))) {
        begun_in_vain.insert(text);
      }
    }
    CHECK(begun_in_vain == std::set<std::string>{});
    without += clients.unanswered(function).size();
  }
  std::cout << kUpgrades << " upgrades: " << clients.answered() << " answered, " << without
            << " told that the agent stops, or not let in\n";
  agent.stop();
  const Leftovers left = leftovers_of(agent);
  INFO(left.text);
  CHECK(left.status == 0);
}

}  // namespace
