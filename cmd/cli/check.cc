// brood check
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/host_check.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct CheckFlags {
  agent::HostCheckOptions host;
  bool json = false;
};

std::string as_json(const std::vector<agent::HostFinding>& findings) {
  Json list = Json::array();
  for (const agent::HostFinding& finding : findings) {
    list.push_back({{"id", finding.id},
                    {"title", finding.title},
                    {"level", agent::host_level_name(finding.level)},
                    {"found", finding.found},
                    {"meaning", finding.meaning},
                    {"mend", finding.mend}});
  }
  return Json({{"findings", list}}).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A line for each finding; what is wanting has two more.
std::string as_text(const std::vector<agent::HostFinding>& findings) {
  Table table({"LEVEL", "FOR", "FOUND"});
  std::string wanting;
  for (const agent::HostFinding& finding : findings) {
    const std::string level(agent::host_level_name(finding.level));
    table.add({level, finding.title, escape_controls(finding.found)});
    if (finding.level == agent::HostLevel::warning || finding.level == agent::HostLevel::missing) {
      wanting += "\n" + level + ": " + finding.title + " (" + finding.id +
                 ")\n  means: " + escape_controls(finding.meaning) +
                 "\n  mend:  " + escape_controls(finding.mend) + "\n";
    }
  }
  return table.print() + wanting;
}

// 0 when an agent can start here as it is.
Outcome<int> check(const CheckFlags& flags) {
  const auto findings = agent::check_host(flags.host);
  CLI_TRY([[maybe_unused]] const int done,
          write_output(flags.json ? as_json(findings) : as_text(findings)));
  const bool able = std::none_of(findings.begin(), findings.end(), [](const auto& finding) {
    return finding.level == agent::HostLevel::missing;
  });
  return static_cast<int>(able ? Exit::ok : Exit::failed);
}

}  // namespace

void add_check(CLI::App& app, Session& session) {
  auto flags = std::make_shared<CheckFlags>();
  CLI::App* verb = app.add_subcommand(kCheck.name, kCheck.help);
  verb->add_option("--state-dir", flags->host.state_dir, "the agent's")->type_name("DIR");
  verb->add_option("--run-dir", flags->host.run_dir, "the agent's")->type_name("DIR");
  verb->add_option("--cgroup-parent", flags->host.cgroup, "the agent's")->type_name("PATH");
  verb->add_flag("--json", flags->json, "print the findings as JSON");
  verb->callback([flags, &session] { session.run = [flags] { return check(*flags); }; });
}

}  // namespace cli
