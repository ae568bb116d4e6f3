#include "tests/support/fake_service.h"

#include "agent/language.h"

#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "agent/clock.h"
#include "agent/command_streams.h"
#include "base/digest.h"

namespace tests {
namespace {

class FakeUpload final : public agent::Upload {
 public:
  FakeUpload(FakeService& service, boost::asio::io_context& loop)
      : service_(service), loop_(loop) {}
  ~FakeUpload() override {
    if (!finished_) {
      ++service_.uploads_dropped;
    }
  }
  bool write(std::string_view bytes) override {
    bytes_.append(bytes);
    return bytes_.size() <= service_.archive_limit_;
  }
  void finish(std::string file_name, agent::Completion<std::string> done) override {
    finished_ = true;
    if (bytes_ == "bomb") {
      boost::asio::post(loop_, [done] {
        done(tl::unexpected<agent::Failure>(
            agent::Failure{400, "invalid_archive", "'../x' leads out of the archive"}));
      });
      return;
    }
    const std::string digest = base::sha256_hex(bytes_);
    service_.code[digest] = std::move(bytes_);
    service_.uploaded_names.push_back(std::move(file_name));
    boost::asio::post(loop_, [done, digest] { done(digest); });
  }

 private:
  FakeService& service_;
  boost::asio::io_context& loop_;
  std::string bytes_;
  bool finished_ = false;
};

class FakeHandle final : public agent::InvocationHandle {
 public:
  explicit FakeHandle(FakeService& service) : service_(service) {}
  void cancel() override { ++service_.cancelled; }

 private:
  FakeService& service_;
};

constexpr std::int64_t kNow = 1'700'000'000'250;

void describe_ending(agent::Outcome& outcome) {
  outcome.message = "it ended as " + std::string(agent::ending_name(outcome.ending));
  switch (outcome.ending) {
    case agent::Ending::handler_error:
    case agent::Ending::init_error:
      outcome.error_type = "ValueError";
      outcome.trace = "Traceback (most recent call last):\nValueError: \xff\n";
      break;
    case agent::Ending::timeout:
      outcome.limit = "handler";
      break;
    case agent::Ending::killed:
      outcome.signal = 31;
      outcome.syscall = "mount";
      break;
    default:
      break;
  }
}

// Keeps one command, "web", that has ended.
class FakeKept final : public agent::KeptCommands {
 public:
  explicit FakeKept(boost::asio::io_context& loop) : loop_(loop) {
    web_.id = "0123456789ab";
    web_.request.name = "web";
    web_.request.arguments = {"serve", "--all"};
    web_.request.user = "1000";
    web_.request.directory = "/";
    web_.request.detached = web_.request.keep = true;
    web_.request.stop_signal = "SIGTERM";
    web_.request.tmpfs = {{.target = "/scratch"}};
    web_.state = agent::KeptCommand::State::ended;
    web_.sandbox = "run.base-1";
    web_.created_ms = web_.started_ms = kNow;
    web_.ended_ms = kNow + 250;
    web_.end.emplace().ending = agent::CommandEnding::exited;
    web_.end->status = 3;
  }

  std::vector<agent::KeptCommand> list() const override { return {web_}; }
  tl::expected<agent::KeptCommand, agent::Failure> find(std::string_view which) const override {
    if (which != "web" && which != web_.id) {
      return tl::unexpected(missing(which));
    }
    return web_;
  }
  tl::expected<std::shared_ptr<void>, agent::Failure> wait(
      std::string_view which, std::function<void(const agent::KeptCommand&)> done) override {
    if (which != "web") {
      return tl::unexpected(missing(which));
    }
    boost::asio::post(loop_, [this, done = std::move(done)] { done(web_); });
    return std::make_shared<int>();
  }
  void remove(std::string_view which, Running /*running*/,
              agent::Completion<agent::KeptCommand> done) override {
    boost::asio::post(loop_, [done = std::move(done), found = find(which)] { done(found); });
  }
  tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure> attach(
      std::string_view which, agent::CommandCallbacks /*callbacks*/) override {
    return tl::unexpected(refused(which));
  }
  tl::expected<void, agent::Failure> detach(std::string_view which) override {
    return tl::unexpected(refused(which));
  }
  tl::expected<std::vector<agent::LogLine>, agent::Failure> logs(
      std::string_view which, std::size_t tail, std::uint64_t after_sequence) const override {
    if (which != "web") {
      return tl::unexpected(missing(which));
    }
    std::vector<agent::LogLine> lines{{1, kNow, "stdout", "out", false},
                                      {2, kNow, "stderr", "err", false}};
    std::erase_if(lines, [&](const auto& line) { return line.sequence <= after_sequence; });
    lines.erase(lines.begin(),
                lines.end() - static_cast<std::ptrdiff_t>(std::min(tail, lines.size())));
    return lines;
  }
  std::shared_ptr<void> follow_logs(std::string_view /*which*/,
                                    std::function<void()> /*more*/) override {
    return nullptr;
  }

 private:
  static agent::Failure missing(std::string_view which) {
    return {404, "not_found", "there is no command '" + std::string(which) + "'"};
  }
  static agent::Failure refused(std::string_view which) {
    return which == "web" ? agent::Failure{409, "conflict", "command 'web' does not run"}
                          : missing(which);
  }

  boost::asio::io_context& loop_;
  agent::KeptCommand web_;
};

}  // namespace

FakeService::FakeService(boost::asio::io_context& loop)
    : loop_(loop), kept_(std::make_unique<FakeKept>(loop)) {
  for (const char* name : {"echo", "hold", "logger", "plain"}) {
    add_function(name);
  }
  for (std::size_t i = 1; i < agent::kEndingCount; ++i) {
    add_function("end-" + std::string(agent::ending_name(static_cast<agent::Ending>(i))));
  }
  add_log_line("logger", "first");
  add_log_line("logger", "second \x1b[31mred");
  add_log_line("logger", "third");
}

std::unique_ptr<agent::Upload> FakeService::begin_upload() {
  return std::make_unique<FakeUpload>(*this, loop_);
}

bool FakeService::has_code(std::string_view digest) const {
  return code.count(std::string(digest)) != 0;
}

void FakeService::add_function(const std::string& name) {
  agent::FunctionStatus& status = functions_[name];
  status.function.name = name;
  status.function.version = 1;
  status.function.code_digest = std::string(64, 'a');
  status.function.deployed_at_ms = kNow;
  status.function.settings.handler = "handler.main";
  status.function.settings.environment = {{"KEY", "value"}};
  status.endings = {{"ok", 2}, {"timeout", 1}};
  status.invocations = 3;
  status.limits_not_enforced = {"cpu"};
}

void FakeService::deploy(agent::DeployRequest request, agent::Completion<agent::Deployed> done) {
  deployments.push_back(request);
  if (request.settings.runtime != "python3") {
    boost::asio::post(loop_, [done, runtime = request.settings.runtime] {
      done(tl::unexpected<agent::Failure>(agent::Failure{
          400, "invalid_argument", "there is no runtime '" + runtime + "'; there is python3"}));
    });
    return;
  }
  if (auto problem = agent::fit_settings(agent::Language::python, request.settings);
      !problem.empty()) {
    boost::asio::post(loop_, [done, problem] {
      done(tl::unexpected<agent::Failure>(agent::Failure{400, "invalid_argument", problem}));
    });
    return;
  }
  agent::Deployed deployed;
  deployed.created = functions_.count(request.name) == 0;
  add_function(request.name);
  agent::Function& function = functions_[request.name].function;
  function.code_digest = request.code_digest;
  function.settings = request.settings;
  deployed.function = function;
  deployed.warnings = {"handler.py, line 3: unexpected indent"};
  boost::asio::post(loop_, [done, deployed] { done(deployed); });
}

void FakeService::remove(std::string name, agent::Completion<agent::Function> done) {
  const auto found = functions_.find(name);
  if (found == functions_.end()) {
    boost::asio::post(loop_, [done, name] {
      done(tl::unexpected<agent::Failure>(
          agent::Failure{404, "not_found", "there is no function '" + name + "'"}));
    });
    return;
  }
  agent::Function function = found->second.function;
  functions_.erase(found);
  boost::asio::post(loop_, [done, function] { done(function); });
}

void FakeService::publish_layer(std::string name, std::string digest,
                                agent::Completion<agent::Layer> done) {
  agent::Layer& layer = layers_[name];
  layer = {name, std::move(digest), 0};
  boost::asio::post(loop_, [done, layer] { done(layer); });
}

void FakeService::remove_layer(std::string name, agent::Completion<agent::Layer> done) {
  tl::expected<agent::Layer, agent::Failure> answer;
  if (name == "used") {
    answer = tl::unexpected<agent::Failure>(
        agent::Failure{409, "conflict", "layer 'used' is used by echo"});
  } else if (layers_.count(name) == 0) {
    answer = tl::unexpected<agent::Failure>(
        agent::Failure{404, "not_found", "there is no layer '" + name + "'"});
  } else {
    answer = layers_.extract(name).mapped();
  }
  boost::asio::post(loop_, [done, answer] { done(answer); });
}

std::vector<agent::LayerStatus> FakeService::layers() const {
  std::vector<agent::LayerStatus> all;
  for (const auto& [name, layer] : layers_) {
    all.push_back({layer, {"echo"}});
  }
  return all;
}

std::vector<agent::FunctionStatus> FakeService::list() const {
  std::vector<agent::FunctionStatus> all;
  for (const auto& [name, status] : functions_) {
    all.push_back(status);
  }
  return all;
}

tl::expected<agent::FunctionStatus, agent::Failure> FakeService::describe(
    std::string_view name) const {
  const auto found = functions_.find(std::string(name));
  if (found == functions_.end()) {
    return tl::unexpected<agent::Failure>(
        agent::Failure{404, "not_found", "there is no function '" + std::string(name) + "'"});
  }
  return found->second;
}

agent::Outcome FakeService::outcome_of(const agent::InvocationRequest& request) const {
  agent::Outcome outcome;
  outcome.invocation_id = "0123456789abcdef";
  outcome.sandbox = "sb-1";
  outcome.cold = true;
  outcome.stages[agent::Stage::received] = request.received_ns;
  outcome.stages[agent::Stage::queued] = request.received_ns + 1'500;
  outcome.stages[agent::Stage::answered] = request.received_ns + 250'040;
  if (request.body_refused) {
    outcome.ending = agent::Ending::payload_too_large;
    outcome.message = "the payload is over the limit";
    return outcome;
  }
  constexpr std::string_view kEnd = "end-";
  if (request.function.rfind(kEnd, 0) == 0) {
    outcome.ending = agent::ending_of(request.function.substr(kEnd.size())).value();
    describe_ending(outcome);
    return outcome;
  }
  outcome.ending = agent::Ending::ok;
  if (request.function == "echo") {
    outcome.body = request.body;
    outcome.content_type = request.content_type;
  } else {
    outcome.body = "{\"function\": \"" + request.function + "\"}";
  }
  return outcome;
}

std::shared_ptr<agent::InvocationHandle> FakeService::invoke(
    agent::InvocationRequest request, std::function<void(agent::Outcome&&)> done) {
  if (draining || functions_.count(request.function) == 0) {
    return nullptr;
  }
  invocations.push_back(request);
  if (request.function == "hold") {
    held_.push_back(std::move(done));
  } else {
    boost::asio::post(loop_, [done = std::move(done), outcome = outcome_of(request)]() mutable {
      done(std::move(outcome));
    });
  }
  return std::make_shared<FakeHandle>(*this);
}

void FakeService::release_held() {
  for (auto& done : std::exchange(held_, {})) {
    agent::InvocationRequest request;
    request.function = "hold";
    request.received_ns = agent::monotonic_ns();
    done(outcome_of(request));
  }
}

namespace {

class FakeCommand final : public agent::CommandHandle {
 public:
  FakeCommand(FakeService& service, agent::CommandCallbacks callbacks)
      : service_(service), callbacks_(std::move(callbacks)) {}
  void cancel() override { ++service_.cancelled; }

  void begin(const agent::CommandRequest& request) {
    auto streams = agent::make_pipes(::getuid());
    std::string text;
    for (const std::string& argument : request.arguments) {
      text += argument + "\n";
    }
    (void)!::write(streams->inside[1].get(), text.data(), text.size());
    callbacks_.started({.sandbox = "run.base-1",
                        .command = request.detached ? "0123456789ab" : "",
                        .streams = std::move(streams->outside)});
  }
  void end(agent::CommandEnd end) { callbacks_.done(std::move(end)); }

 private:
  FakeService& service_;
  agent::CommandCallbacks callbacks_;
};

}  // namespace

tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure> FakeService::run(
    agent::CommandRequest request, agent::CommandCallbacks callbacks) {
  if (request.image == "missing") {
    return tl::unexpected(agent::Failure{404, "not_found", "there is no image 'missing'"});
  }
  const auto command = std::make_shared<FakeCommand>(*this, std::move(callbacks));
  commands.push_back(request);
  boost::asio::post(loop_, [command, request = std::move(request)] {
    const std::string& name = request.arguments.front();
    agent::CommandEnd end;
    if (name == "never") {
      end.message = "it cannot begin";
      return command->end(std::move(end));
    }
    command->begin(request);
    if (name != "hold") {
      end.ending = agent::CommandEnding::exited;
      end.status = name == "fail" ? 3 : 0;
      command->end(std::move(end));
    }
  });
  return command;
}

tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure> FakeService::execute(
    std::string_view sandbox, agent::CommandRequest request, agent::CommandCallbacks callbacks) {
  if (sandbox != "run.base-1") {
    return tl::unexpected(agent::Failure{404, "not_found", "no such sandbox runs a command"});
  }
  return run(std::move(request), std::move(callbacks));
}

tl::expected<void, agent::Failure> FakeService::signal(std::string_view sandbox,
                                                       std::uint32_t /*process*/, int number) {
  if (sandbox != "run.base-1") {
    return tl::unexpected(agent::Failure{404, "not_found", "no such sandbox runs a command"});
  }
  signals.push_back(number);
  return {};
}

tl::expected<void, agent::Failure> FakeService::set_paused(std::string_view sandbox, bool paused) {
  if (sandbox != "run.base-1") {
    return tl::unexpected(agent::Failure{404, "not_found", "no such sandbox runs a command"});
  }
  pauses.push_back(paused);
  return {};
}

std::vector<agent::SandboxStatus> FakeService::sandboxes() const {
  agent::SandboxStatus pool{"sb-1",  "python3", "",      "",     "", "pool", 4711,
                            100'000, 1500,      7 << 20, 12'000, {}, {}};
  agent::SandboxStatus running = pool;
  running.addresses = {"10.231.1.0", "fd62:726f:6f64::100"};
  running.network = {.sent_bytes = 840,
                     .sent_packets = 10,
                     .received_bytes = 420,
                     .received_packets = 5,
                     .denied_packets = 1};
  running.id = "sb-2";
  running.function = "echo";
  running.state = "running";
  return {pool, running};
}

agent::AgentStatus FakeService::status() const {
  agent::AgentStatus status;
  status.version = BROOD_VERSION;
  status.pid = 42;
  status.uptime_ms = 5000;
  status.limits = "best-effort";
  status.limits_not_enforced = {"memory", "cpu"};
  status.runtimes = {{"python3", "sha256:" + std::string(64, 'b'), "ready", "", 43, 4, 2, 8, 1}};
  status.functions = functions_.size();
  status.invocations = invocations.size();
  return status;
}

std::string FakeService::metrics() const {
  return "# TYPE brood_invocations_total counter\nbrood_invocations_total 3\n";
}

tl::expected<std::vector<agent::LogLine>, agent::Failure> FakeService::logs(
    std::string_view name, std::size_t tail, std::uint64_t after_sequence) const {
  if (functions_.count(std::string(name)) == 0) {
    return tl::unexpected<agent::Failure>(agent::Failure{404, "not_found", "no such function"});
  }
  std::vector<agent::LogLine> lines;
  if (const auto found = logs_.find(std::string(name)); found != logs_.end()) {
    std::copy_if(found->second.begin(), found->second.end(), std::back_inserter(lines),
                 [&](const agent::LogLine& line) { return line.sequence > after_sequence; });
  }
  lines.erase(lines.begin(),
              lines.end() - static_cast<std::ptrdiff_t>(std::min(tail, lines.size())));
  return lines;
}

std::shared_ptr<void> FakeService::follow_logs(std::string_view name, std::function<void()> more) {
  ++followers;
  auto follower = std::shared_ptr<std::function<void()>>(new std::function<void()>(std::move(more)),
                                                         [this](std::function<void()>* gone) {
                                                           --followers;
                                                           delete gone;
                                                         });
  followers_[std::string(name)].push_back(follower);
  return follower;
}

void FakeService::add_log_line(const std::string& name, const std::string& text) {
  auto& lines = logs_[name];
  lines.push_back({lines.size() + 1, kNow, "0123456789abcdef", text, false});
  for (const auto& follower : followers_[name]) {
    if (const auto more = follower.lock()) {
      (*more)();
    }
  }
}

}  // namespace tests
