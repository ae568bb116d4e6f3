#include "agent/function_runner.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>

#include "agent/clock.h"
#include "base/units.h"

namespace agent {
namespace {

std::uint64_t next_invocation_number() {
  static std::uint64_t number = 0;
  return ++number;
}

// 128 random bits in hexadecimal, as a trace id is. An id is a name for logs, not a secret.
std::string make_id() {
  static std::mt19937_64 random{std::random_device{}()};
  constexpr char kHex[] = "0123456789abcdef";
  std::string id(32, '0');
  for (std::size_t half = 0; half < 2; ++half) {
    std::uint64_t bits = random();
    for (std::size_t i = 0; i < 16; ++i, bits >>= 4) {
      id[half * 16 + i] = kHex[bits & 15];
    }
  }
  return id;
}

Outcome told(Ending ending, std::string message) {
  Outcome outcome;
  outcome.ending = ending;
  outcome.message = std::move(message);
  return outcome;
}

// The sandbox's word is hostile: its stages are pressed between what the agent has seen.
void take_stages(StageTimes& stages, const Frame& frame, std::int64_t now) {
  constexpr Stage kTold[] = {Stage::woken, Stage::loaded, Stage::called, Stage::returned,
                             Stage::encoded};
  std::int64_t least = stages[Stage::sent];
  for (std::size_t i = 0; i < std::size(kTold); ++i) {
    if (frame.stage_ns[i] != 0) {
      least = std::clamp(frame.stage_ns[i], least, now);
      stages[kTold[i]] = least;
    }
  }
}

Outcome outcome_of_error(Frame& frame, const Evidence& counted, const FunctionSettings& settings) {
  const bool loading = (frame.flags & BROOD_FLAG_INIT) != 0;
  // The kernel may have killed a child of the handler's alone.
  const bool memory = (frame.flags & BROOD_FLAG_MEMORY) != 0 || counted.oom_kills > 0;
  Outcome outcome;
  outcome.error_type = std::move(frame.parts[BROOD_ERROR_TYPE]);
  outcome.message = std::move(frame.parts[BROOD_ERROR_MESSAGE]);
  outcome.trace = std::move(frame.parts[BROOD_ERROR_TRACE]);
  if ((frame.flags & BROOD_FLAG_TOO_LARGE) != 0) {
    outcome.ending = Ending::response_too_large;
    return outcome;
  }
  outcome.ending = judge_error(loading, memory, counted.pids_refusals);
  if (outcome.ending == Ending::out_of_memory || outcome.ending == Ending::pids_limit) {
    Evidence evidence;
    evidence.oom_kills = memory ? 1 : 0;
    evidence.pids_refusals = counted.pids_refusals;
    Outcome judged = judge(evidence, settings);
    outcome.limit = judged.limit;
    outcome.message = judged.message + " (" + outcome.error_type + ": " + outcome.message + ")";
  }
  return outcome;
}

}  // namespace

// One request on its way. Shared by the runner, which drives it, and by the caller, who may cancel
// it.
class Invocation : public InvocationHandle, public std::enable_shared_from_this<Invocation> {
 public:
  Invocation(std::weak_ptr<FunctionRunner> runner, boost::asio::io_context& loop,
             InvocationRequest asked, std::function<void(Outcome&&)> done)
      : request(std::move(asked)),
        id(make_id()),
        number(next_invocation_number()),
        deadline(loop),
        runner_(std::move(runner)),
        done_(std::move(done)) {
    stages[Stage::received] = request.received_ns;
  }

  void cancel() override {
    if (const auto runner = runner_.lock(); runner && done_) {
      runner->cancel(*this);
    }
  }
  bool ended() const { return done_ == nullptr; }
  // The caller has gone: it is told nothing any more.
  void forget() { done_ = nullptr; }
  void end(Outcome outcome) {
    if (const auto done = std::exchange(done_, nullptr)) {
      outcome.invocation_id = id;
      outcome.stages = stages;
      done(std::move(outcome));
    }
  }

  InvocationRequest request;
  const std::string id;
  const std::uint64_t number;
  StageTimes stages;
  bool cold = false;
  bool loaded = false;
  boost::asio::steady_timer deadline;

 private:
  std::weak_ptr<FunctionRunner> runner_;
  std::function<void(Outcome&&)> done_;
};

FunctionRunner::FunctionRunner(const RunnerContext& context, std::shared_ptr<FunctionLog> log,
                               std::shared_ptr<FunctionMetrics> metrics)
    : context_(context),
      log_(std::move(log)),
      own_lines_(log_->source()),
      metrics_(std::move(metrics)),
      idle_timer_(context_.loop) {}

FunctionRunner::~FunctionRunner() = default;

// --- versions ------------------------------------------------------------------------------------

void FunctionRunner::deploy(std::shared_ptr<const Deployment> deployment) {
  deployment_ = std::move(deployment);
  retired_ = false;
  end_idle();
  // Those that wait run the new version. Their claims are with the former's pool: it may offer
  // nothing to them once the new one has.
  claims_ = 0;
  serve_waiting();
}

void FunctionRunner::retire() {
  retired_ = true;
  end_idle();
  for (const auto& invocation : std::exchange(waiting_, {})) {
    refuse_later(invocation, Ending::internal,
                 "the function was removed while the invocation waited");
  }
}

void FunctionRunner::stop() {
  retired_ = true;
  for (const auto& invocation : std::exchange(waiting_, {})) {
    refuse_later(invocation, Ending::internal, "the agent is stopping");
  }
  for (auto& [key, instance] : instances_) {
    instance.sandbox->evidence().own_fault = "the agent stopped before the invocation had ended";
    instance.sandbox->kill();
  }
}

void FunctionRunner::end_idle() {
  for (const Sandbox* key : std::exchange(idle_, {})) {
    instances_.at(key).sandbox->kill();
  }
}

std::optional<std::int64_t> FunctionRunner::idle_since_ns() const {
  return idle_.empty() ? std::nullopt : std::optional(instances_.at(idle_.front()).idle_since_ns);
}

void FunctionRunner::end_longest_idle() {
  const Sandbox* key = idle_.front();
  idle_.pop_front();
  instances_.at(key).sandbox->kill();
}

// --- the way in ----------------------------------------------------------------------------------

std::shared_ptr<InvocationHandle> FunctionRunner::invoke(InvocationRequest request,
                                                         std::function<void(Outcome&&)> done) {
  ++invocations_;
  auto invocation = std::make_shared<Invocation>(weak_from_this(), context_.loop,
                                                 std::move(request), std::move(done));
  invocation->stages[Stage::queued] = monotonic_ns();
  const auto limit = context_.config.payload_limit;
  if (invocation->request.body_refused || invocation->request.body.size() > limit) {
    refuse_later(invocation, Ending::payload_too_large,
                 "the payload is over the limit of " + base::format_bytes(limit));
    return invocation;
  }
  dispatch(invocation);
  return invocation;
}

// The instance used last: its memory is still warm. One that is being ended (it spoke out of turn
// while it idled), or was killed from outside a moment ago, is passed over, though the loop has not
// been told yet.
FunctionRunner::Instance* FunctionRunner::take_idle() {
  while (!idle_.empty()) {
    Instance& instance = instances_.at(idle_.back());
    idle_.pop_back();
    if (instance.sandbox->state() == Sandbox::State::idle && !instance.sandbox->has_ended()) {
      return &instance;
    }
  }
  return nullptr;
}

void FunctionRunner::dispatch(std::shared_ptr<Invocation> invocation) {
  if (waiting_.empty()) {
    if (Instance* instance = take_idle()) {
      return run_warm(*instance, std::move(invocation));
    }
    if (instances_.size() < deployment_->function.settings.concurrency) {
      if (auto sandbox = deployment_->pool->take(this)) {
        return run_cold(std::move(sandbox), std::move(invocation));
      }
    }
  }
  // Those that wait for no more than a sandbox to be made, or an ending one to be gone, have a
  // place of their own: the queue is for what comes beyond the concurrency.
  const FunctionSettings& settings = deployment_->function.settings;
  if (running_ + waiting_.size() >= std::size_t{settings.concurrency} + settings.queue) {
    return refuse_later(std::move(invocation), Ending::overloaded,
                        "the function runs " + std::to_string(running_) + " invocations and " +
                            std::to_string(waiting_.size()) + " wait: its queue is full");
  }
  waiting_.push_back(std::move(invocation));
  serve_waiting();
}

// Ends an invocation that got no sandbox; not before the call that brought it has returned.
void FunctionRunner::refuse_later(std::shared_ptr<Invocation> invocation, Ending ending,
                                  std::string message) {
  ++endings_[static_cast<std::size_t>(ending)];
  metrics_->refused(ending);
  boost::asio::post(context_.loop, [self = shared_from_this(), invocation = std::move(invocation),
                                    ending, message = std::move(message)]() mutable {
    Outcome outcome = told(ending, std::move(message));
    self->note(*invocation, outcome);
    invocation->end(std::move(outcome));
  });
}

// Gives idle instances to those who wait, and claims a pool sandbox for each that may have a new
// one.
void FunctionRunner::serve_waiting() {
  while (!waiting_.empty()) {
    Instance* instance = take_idle();
    if (instance == nullptr) {
      break;
    }
    auto invocation = std::move(waiting_.front());
    waiting_.pop_front();
    run_warm(*instance, std::move(invocation));
  }
  const std::size_t most = deployment_->function.settings.concurrency;
  while (claims_ < waiting_.size() && instances_.size() + claims_ < most) {
    ++claims_;
    deployment_->pool->claim(weak_from_this());
  }
}

bool FunctionRunner::offer(const std::shared_ptr<Sandbox>& sandbox) {
  claims_ -= claims_ > 0 ? 1 : 0;
  if (waiting_.empty() || instances_.size() >= deployment_->function.settings.concurrency ||
      !deployment_->pool->owns(*sandbox)) {
    return false;
  }
  auto invocation = std::move(waiting_.front());
  waiting_.pop_front();
  sandbox->set_owner(this);
  run_cold(sandbox, std::move(invocation));
  return true;
}

void FunctionRunner::refuse(const std::string& problem) {
  claims_ -= claims_ > 0 ? 1 : 0;
  if (waiting_.empty() || !instances_.empty()) {
    return;  // an instance will serve them
  }
  auto invocation = std::move(waiting_.front());
  waiting_.pop_front();
  refuse_later(std::move(invocation), Ending::internal, problem);
}

// --- running -------------------------------------------------------------------------------------

void FunctionRunner::run_warm(Instance& instance, std::shared_ptr<Invocation> invocation) {
  invocation->stages[Stage::assigned] = monotonic_ns();
  invocation->loaded = true;
  instance.invocation = std::move(invocation);
  instance.sandbox->evidence() = Evidence{};
  send(instance);
}

void FunctionRunner::run_cold(std::shared_ptr<Sandbox> sandbox,
                              std::shared_ptr<Invocation> invocation) {
  invocation->stages[Stage::assigned] = monotonic_ns();
  invocation->cold = true;
  const Sandbox* key = sandbox.get();
  sandbox->function = deployment_->function.name;
  Instance& instance = instances_[key];
  instance.sandbox = std::move(sandbox);
  instance.deployment = deployment_;
  instance.lines = std::make_unique<LogSource>(log_->source());
  instance.invocation = std::move(invocation);
  instance.sandbox->set_state(Sandbox::State::running);
  if (const auto bound = bind(instance); !bound) {
    instance.sandbox->evidence().own_fault = bound.error().message();
    instance.sandbox->kill();
    ++running_;
    context_.count_running(1);
    return;
  }
  send(instance);
}

base::Status FunctionRunner::bind(Instance& instance) {
  const Deployment& deployment = *instance.deployment;
  const FunctionSettings& settings = deployment.function.settings;
  StageTimes& stages = instance.invocation->stages;
  BROOD_CHECK(instance.sandbox->attach(deployment.code));
  if (deployment.layers) {
    BROOD_CHECK(instance.sandbox->attach_layers(deployment.layers));
  }
  stages[Stage::attached] = monotonic_ns();
  BROOD_CHECK(instance.sandbox->limit(settings));
  stages[Stage::limited] = monotonic_ns();
  return instance.sandbox->gather().bind(
      {.function = deployment.function.name,
       .handler = deployment.handler,
       .environment = deployment.environment,
       .code = deployment.compiled,
       .limits = {.memory_bytes = settings.memory_bytes,
                  .response_bytes = context_.config.response_limit,
                  .pids = settings.pids,
                  .version = static_cast<std::uint32_t>(deployment.function.version)},
       .soft_limits = context_.soft_limits ? SoftLimits::wanted : SoftLimits::unneeded,
       .layers = static_cast<bool>(deployment.layers)});
}

void FunctionRunner::send(Instance& instance) {
  ++running_;
  context_.count_running(1);
  Sandbox& sandbox = *instance.sandbox;
  Invocation& invocation = *instance.invocation;
  sandbox.set_state(Sandbox::State::running);
  const std::int64_t now = monotonic_ns();
  const auto timeout = std::chrono::nanoseconds(instance.deployment->function.settings.timeout);
  const auto added = sandbox.gather().invoke(
      {.invocation = invocation.number,
       .deadline_ns = now + timeout.count(),
       .id = invocation.id,
       .content_type = invocation.request.content_type,
       .payload = invocation.request.body,
       .flags = invocation.request.kind == ContentKind::json ? BROOD_FLAG_JSON : 0U});
  if (!added) {
    sandbox.evidence().own_fault = added.error().message();
    return sandbox.kill();
  }
  invocation.stages[Stage::sent] = now;
  sandbox.send(
      std::make_shared<std::pair<std::shared_ptr<Invocation>, std::shared_ptr<const Deployment>>>(
          instance.invocation, instance.deployment));
  arm_deadline(instance);
}

void FunctionRunner::arm_deadline(Instance& instance) {
  Invocation& invocation = *instance.invocation;
  invocation.deadline.expires_after(instance.deployment->function.settings.timeout);
  invocation.deadline.async_wait(
      [self = shared_from_this(), sandbox = instance.sandbox,
       running = instance.invocation](const boost::system::error_code& error) {
        Instance* now = error ? nullptr : self->instance_of(*sandbox);
        if (now != nullptr && now->invocation == running) {
          self->deadline_passed(*sandbox);
        }
      });
}

void FunctionRunner::deadline_passed(Sandbox& sandbox) {
  if (sandbox.state() == Sandbox::State::running) {
    sandbox.evidence().timed_out = true;
    sandbox.kill();
  }
}

FunctionRunner::Instance* FunctionRunner::instance_of(const Sandbox& sandbox) {
  const auto found = instances_.find(&sandbox);
  return found == instances_.end() ? nullptr : &found->second;
}

void FunctionRunner::cancel(Invocation& invocation) {
  invocation.forget();
  const auto waiting = std::find_if(waiting_.begin(), waiting_.end(),
                                    [&](const auto& other) { return other.get() == &invocation; });
  if (waiting != waiting_.end()) {
    waiting_.erase(waiting);
    return;
  }
  for (auto& [key, instance] : instances_) {
    if (instance.invocation.get() == &invocation) {
      instance.sandbox->evidence().cancelled = true;
      return instance.sandbox->kill();
    }
  }
}

// --- the way out ---------------------------------------------------------------------------------

void FunctionRunner::on_ready(Sandbox& /*sandbox*/) {}

void FunctionRunner::on_loaded(Sandbox& sandbox) {
  if (Instance* instance = instance_of(sandbox);
      instance != nullptr && instance->invocation != nullptr) {
    instance->invocation->loaded = true;
  }
}

void FunctionRunner::on_answer(Sandbox& sandbox, Frame frame) {
  Instance* instance = instance_of(sandbox);
  if (instance == nullptr || instance->invocation == nullptr) {
    return;
  }
  Invocation& invocation = *instance->invocation;
  if (frame.kind != BROOD_FRAME_RESULT || frame.invocation != invocation.number) {
    sandbox.evidence().broken_rule = "an answer for another invocation";
    return sandbox.kill();
  }
  const std::int64_t now = monotonic_ns();
  invocation.stages[Stage::answered] = now;
  take_stages(invocation.stages, frame, now);
  sandbox.drain_output();
  if (!frame.is_error()) {
    Outcome outcome;
    outcome.ending = Ending::ok;
    outcome.content_type = std::move(frame.parts[BROOD_RESULT_CONTENT_TYPE]);
    outcome.body = std::move(frame.parts[BROOD_RESULT_BODY]);
    finish(*instance, std::move(outcome));
    return after(*instance, true);
  }
  sandbox.count_evidence();
  Outcome outcome =
      outcome_of_error(frame, sandbox.evidence(), instance->deployment->function.settings);
  const bool reusable =
      outcome.ending == Ending::handler_error || outcome.ending == Ending::response_too_large;
  finish(*instance, std::move(outcome));
  after(*instance, reusable);
}

void FunctionRunner::finish(Instance& instance, Outcome outcome) {
  const auto invocation = std::exchange(instance.invocation, nullptr);
  invocation->deadline.cancel();
  --running_;
  context_.count_running(-1);
  outcome.cold = invocation->cold;
  outcome.sandbox = instance.sandbox->id();
  if (outcome.ending != Ending::ok) {
    note(*invocation, outcome);
  }
  ++endings_[static_cast<std::size_t>(outcome.ending)];
  const StageTimes& stages = invocation->stages;
  metrics_->ended(outcome.ending, outcome.cold ? Start::cold : Start::warm,
                  std::chrono::nanoseconds(stages[Stage::answered] - stages[Stage::received]));
  context_.metrics->observe_stages(stages);
  invocation->end(std::move(outcome));
}

// The instance has answered: it serves who waits, idles, or ends.
void FunctionRunner::after(Instance& instance, bool reusable) {
  Sandbox& sandbox = *instance.sandbox;
  if (sandbox.state() != Sandbox::State::running) {
    return;  // being killed
  }
  const FunctionSettings& settings = instance.deployment->function.settings;
  if (!reusable || !settings.reuse || retired_ || instance.deployment != deployment_) {
    sandbox.kill();
    return;
  }
  if (!context_.soft_limits) {
    sandbox.mark_counters();
  }
  sandbox.set_state(Sandbox::State::idle);
  instance.idle_since_ns = monotonic_ns();
  idle_.push_back(&sandbox);
  serve_waiting();
  if (context_.crowded() && !idle_.empty()) {
    end_longest_idle();
  }
  arm_idle_timer();
}

void FunctionRunner::on_output(Sandbox& sandbox, std::string_view bytes) {
  if (Instance* instance = instance_of(sandbox)) {
    log_->append(*instance->lines, bytes,
                 instance->invocation != nullptr ? std::string_view(instance->invocation->id) : "",
                 unix_ms());
    flush_log_soon();
  }
}

// The ending of an invocation that failed, as a line of its function's log.
void FunctionRunner::note(const Invocation& invocation, const Outcome& outcome) {
  std::string line = "brood: " + std::string(ending_name(outcome.ending)) + ": ";
  if (!outcome.error_type.empty()) {
    line += outcome.error_type + ": ";
  }
  line += outcome.message + "\n";
  log_->append(own_lines_, line, invocation.id, unix_ms());
  flush_log_soon();
}

// After the answer: lines of one turn of the loop go to the disk together.
void FunctionRunner::flush_log_soon() {
  if (std::exchange(flush_planned_, true)) {
    return;
  }
  boost::asio::post(context_.loop, [self = shared_from_this()] {
    self->flush_planned_ = false;
    if (const auto flushed = self->log_->flush(); !flushed) {
      spdlog::warn("the log of {}: {}", self->deployment_->function.name,
                   flushed.error().message());
    }
    for (const auto& more : std::list(self->followers_)) {
      more();
    }
  });
}

std::shared_ptr<void> FunctionRunner::follow(std::function<void()> more) {
  const auto place = followers_.insert(followers_.end(), std::move(more));
  return {nullptr, [weak = weak_from_this(), place](void*) {
            if (const auto self = weak.lock()) {
              self->followers_.erase(place);
            }
          }};
}

void FunctionRunner::on_gone(Sandbox& sandbox) {
  Instance* instance = instance_of(sandbox);
  if (instance == nullptr) {
    return;
  }
  std::erase(idle_, &sandbox);
  if (instance->invocation != nullptr) {
    const auto& invocation = *instance->invocation;
    sandbox.evidence().loading = !invocation.loaded;
    instance->invocation->stages[Stage::answered] = monotonic_ns();
    finish(*instance, judge(sandbox.evidence(), instance->deployment->function.settings));
  }
  log_->end(*instance->lines, unix_ms());
  flush_log_soon();
  const auto deployment = instance->deployment;
  const auto keep = instance->sandbox;
  instances_.erase(&sandbox);
  deployment->pool->retire(sandbox);
  if (!retired_) {
    serve_waiting();
  } else if (quiet()) {
    context_.emptied();
  }
}

// --- idling --------------------------------------------------------------------------------------

void FunctionRunner::arm_idle_timer() {
  if (idle_.empty() || idle_armed_) {
    return;  // an armed timer fires no later than the oldest expires, and looks again
  }
  idle_armed_ = true;
  const Instance& oldest = instances_.at(idle_.front());
  const auto idle = std::chrono::nanoseconds(deployment_->function.settings.idle);
  const std::int64_t left = oldest.idle_since_ns + idle.count() - monotonic_ns();
  idle_timer_.expires_after(std::chrono::nanoseconds(std::max<std::int64_t>(left, 0)));
  idle_timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    if (const auto self = weak.lock(); self && !error) {
      self->idle_armed_ = false;
      self->expire_idle();
    }
  });
}

void FunctionRunner::expire_idle() {
  const std::int64_t now = monotonic_ns();
  const auto idle = std::chrono::nanoseconds(deployment_->function.settings.idle);
  while (!idle_.empty() && now - instances_.at(idle_.front()).idle_since_ns >= idle.count()) {
    const Sandbox* key = idle_.front();
    idle_.pop_front();
    instances_.at(key).sandbox->kill();
  }
  arm_idle_timer();
}

FunctionStatus FunctionRunner::status() const {
  FunctionStatus status;
  status.function = deployment_->function;
  status.instances = static_cast<std::uint32_t>(instances_.size());
  status.running = running_;
  status.queued = static_cast<std::uint32_t>(waiting_.size());
  status.invocations = invocations_;
  for (std::size_t i = 0; i < kEndingCount; ++i) {
    if (endings_[i] > 0) {
      status.endings[std::string(ending_name(static_cast<Ending>(i)))] = endings_[i];
    }
  }
  return status;
}

}  // namespace agent
