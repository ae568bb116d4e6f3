// brood invoke
#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "agent/types.h"
#include "cmd/cli/client.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

struct InvokeFlags {
  std::string name;
  std::optional<std::string> data;
  std::string content_type;
  std::string output;
  bool trace = false;
  bool json = false;
};

// What follows --data, as curl has it: text, @FILE, or @- for standard input.
Outcome<std::string> payload_of(const InvokeFlags& flags) {
  if (flags.data) {
    return flags.data->rfind('@', 0) == 0 ? read_whole(flags.data->substr(1))
                                          : Outcome<std::string>(*flags.data);
  }
  return is_terminal(Standard::input) ? Outcome<std::string>(std::string()) : read_whole("-");
}

// JSON goes as JSON and anything else as bytes, so that both `--data '{"a": 1}'` and a text file
// reach their handlers without a word about it.
std::string content_type_of(const InvokeFlags& flags, const std::string& payload) {
  if (!flags.content_type.empty()) {
    return flags.content_type;
  }
  return payload.empty() || Json::accept(payload) ? "application/json" : "application/octet-stream";
}

// Told as times from the request's arrival at the agent; shown with what each stage took.
std::string trace_table(const std::string& trace) {
  Table table({"STAGE", "AT us", "TOOK us"});
  double before = 0;
  std::size_t begin = 0;
  while (begin < trace.size()) {
    const auto end = std::min(trace.find(',', begin), trace.size());
    const std::string entry = trace.substr(begin, end - begin);
    const auto equals = std::min(entry.find('='), entry.size() - 1);
    const double at = std::strtod(entry.c_str() + equals + 1, nullptr);
    char took[32];
    std::snprintf(took, sizeof took, "%.1f", at - before);
    table.add({entry.substr(0, equals), entry.substr(equals + 1), took});
    before = at;
    begin = end + 1;
  }
  return table.print();
}

std::string brood_header(const Response& response, const std::string& name) {
  const auto found = response.brood.find(name);
  return found == response.brood.end() ? std::string() : found->second;
}

void print_trace(const Response& response) {
  std::fprintf(stderr, "invocation %s, %s start\n%s", brood_header(response, "Invocation").c_str(),
               brood_header(response, "Start").c_str(),
               trace_table(brood_header(response, "Trace")).c_str());
}

std::string as_json(const Response& response) {
  Json document{{"ending", brood_header(response, "Ending")},
                {"invocation", brood_header(response, "Invocation")},
                {"start", brood_header(response, "Start")},
                {"trace", brood_header(response, "Trace")},
                {"content_type", response.content_type}};
  Json body = Json::parse(response.body, nullptr, false);
  if (response.status != 200) {
    document["error"] = body.is_object() && body.contains("error") ? body["error"] : Json();
  } else if (body.is_discarded()) {
    document["text"] = response.body;
  } else {
    document["result"] = std::move(body);
  }
  return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// One line that says how it ended and why, then the handler's own words.
void tell_ending(const std::string& name, const Response& response) {
  const Json document = Json::parse(response.body, nullptr, false);
  const Json error =
      document.is_object() ? document.value("error", Json::object()) : Json::object();
  tell(escape_controls(name + ": " + error.value("ending", "internal") + ": " +
                       error.value("message", "") + " (invocation " +
                       error.value("invocation", "unknown") + ")"));
  std::string trace = error.value("trace", "");
  if (!trace.empty() && trace.back() != '\n') {
    trace += '\n';
  }
  std::size_t begin = 0;
  while (begin < trace.size()) {
    const auto end = trace.find('\n', begin);
    std::fprintf(stderr, "%s\n", escape_controls(trace.substr(begin, end - begin)).c_str());
    begin = end + 1;
  }
}

Outcome<int> deliver(const InvokeFlags& flags, const Response& response) {
  const std::string bytes = flags.json ? as_json(response) : response.body;
  CLI_TRY([[maybe_unused]] const int done,
          flags.output.empty() ? write_output(bytes) : write_file(flags.output, bytes));
  const bool on_terminal = flags.output.empty() && is_terminal(Standard::output);
  if (on_terminal && !bytes.empty() && bytes.back() != '\n') {
    return write_output("\n");
  }
  return 0;
}

Outcome<int> invoke(const InvokeFlags& flags, const Session& session) {
  CLI_TRY(std::string payload, payload_of(flags));
  Client client(session.socket);
  Request request{"POST", "/functions/" + encode_segment(flags.name) + "/invocations",
                  std::move(payload), ""};
  request.content_type = content_type_of(flags, request.body);
  CLI_TRY(const Response response, client.ask(request));
  const auto ending = agent::ending_of(brood_header(response, "Ending"));
  if (!ending) {
    return tl::unexpected<Failure>(failure_of(response));
  }
  if (flags.trace) {
    print_trace(response);
  }
  const bool ok = *ending == agent::Ending::ok;
  if (ok || flags.json) {
    CLI_TRY([[maybe_unused]] const int done, deliver(flags, response));
  }
  if (!ok) {
    tell_ending(flags.name, response);
  }
  return agent::exit_code_of(*ending);
}

}  // namespace

void add_invoke(CLI::App& app, Session& session) {
  auto flags = std::make_shared<InvokeFlags>();
  CLI::App* verb = app.add_subcommand("invoke", "Call a function; its result goes to stdout");
  verb->add_option("name", flags->name, "the function")->required();
  verb->add_option("-d,--data", flags->data,
                   "the payload: text, @FILE, or @- for stdin; without it stdin unless that is a "
                   "terminal")
      ->type_name("TEXT|@FILE");
  verb->add_option("--content-type", flags->content_type,
                   "the payload's; without it application/json when it is JSON, else "
                   "application/octet-stream")
      ->type_name("TYPE");
  verb->add_option("-o,--output", flags->output, "write the result here")->type_name("FILE");
  verb->add_flag("--trace", flags->trace, "show on stderr where the time went");
  verb->add_flag("--json", flags->json, "print the result with its ending, id and trace");
  verb->callback(
      [flags, &session] { session.run = [flags, &session] { return invoke(*flags, session); }; });
}

}  // namespace cli
