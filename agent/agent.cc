#include "agent/agent.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "agent/clock.h"
#include "agent/command_book.h"
#include "agent/command_place.h"
#include "agent/commands.h"
#include "agent/compile_job.h"
#include "agent/native_function.h"
#include "agent/runtime_choice.h"
#include "base/digest.h"
#include "base/file.h"
#include "isolate/seccomp.h"
#include "rootfs/definition.h"
#include "rootfs/image.h"
#include "rootfs/image_store.h"
#include "rootfs/walk.h"

namespace agent {
namespace {

constexpr const char* kDefaultImage = "base";
// Sandboxes that wait for a function with a network: at most, because each network has its own.
constexpr std::uint32_t kNetworkPool = 2;

Failure not_found(std::string_view name) {
  return {404, "not_found", "there is no function '" + std::string(name) + "'"};
}
Failure invalid(std::string message) {
  return {400, "invalid_argument", std::move(message)};
}
Failure conflict(std::string message) {
  return {409, "conflict", std::move(message)};
}
Failure internal(const base::Error& error) {
  return {500, "internal", error.message()};
}

std::string environment_block(const FunctionSettings& settings, Language language) {
  auto environment = settings.environment;
  if (!settings.layers.empty()) {
    add_layers_environment(language, environment);
  }
  std::string block;
  for (const auto& [key, value] : environment) {
    block.append(key).append("=").append(value).push_back('\0');
  }
  return block;
}

// A name for this agent's kernel objects that is the same after a restart on the same state
// directory.
std::string instance_name(const std::string& state_dir) {
  return base::sha256_hex(state_dir).substr(0, 12);
}

std::vector<RuntimeCandidate> python_runtimes(const std::string& images_dir) {
  std::vector<RuntimeCandidate> found;
  const auto images = rootfs::list_images(images_dir);
  for (std::size_t i = 0; images && i < images->size(); ++i) {
    const auto& manifest = (*images)[i].manifest;
    if (manifest && !manifest->interpreter.empty() &&
        language_of(manifest->interpreter) == Language::python) {
      found.push_back({manifest->name, manifest->preload});
    }
  }
  return found;
}

}  // namespace

// --- starting ------------------------------------------------------------------------------------

base::Result<std::unique_ptr<Agent>> Agent::start(boost::asio::io_context& loop,
                                                  const AgentConfig& config) {
  std::unique_ptr<Agent> agent(new Agent(loop, config));
  BROOD_CHECK(agent->take_state_dir());
  BROOD_TRY(agent->limits_, take_cgroups(instance_name(config.state_dir), config));
  if (!agent->limits_.reasons.empty()) {
    spdlog::warn("limits are best effort on this host; not enforced:{}", agent->limits_.reasons);
  }
  BROOD_TRY(agent->host_mounts_, base::open_at(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY));
  BROOD_CHECK(rootfs::enter_own_mount_namespace());
  BROOD_CHECK(agent->make_slots());
  agent->features_ = isolate::probe_features();
  const auto deadly =
      agent->features_.seccomp_notify ? isolate::Deadly::notify : isolate::Deadly::kill;
  agent->sandbox_filter_ = isolate::sandbox_filter(deadly, isolate::SetId::allowed);
  agent->strict_filter_ = isolate::sandbox_filter(deadly, isolate::SetId::refused);
  agent->zygote_filter_ = isolate::zygote_filter();
  BROOD_TRY(agent->own_area_, UidArea::claim(config.run_dir + "/areas"));
  agent->maker_ = std::make_unique<Maker>(loop);
  agent->disk_ = std::make_unique<Maker>(loop);
  agent->mounter_ = std::make_unique<Maker>(loop);
  agent->make_networks();
  agent->metrics_ = std::make_unique<Metrics>();
  BROOD_CHECK(agent->open_stores());
  agent->make_commands();
  agent->find_runtimes();
  BROOD_CHECK(agent->load_functions());
  return agent;
}

Agent::Agent(boost::asio::io_context& loop, const AgentConfig& config)
    : loop_(loop), config_(config), started_ns_(monotonic_ns()) {}

Agent::~Agent() {
  if (maker_ != nullptr) {
    maker_->finish();
    disk_->finish();
    mounter_->finish();
    if (networks_ != nullptr) {
      networks_->finish();
    }
  }
}

void Agent::make_networks() {
  const std::string beside =
      config_.unpack_program.substr(0, config_.unpack_program.rfind('/') + 1);
  networks_ = std::make_unique<Networks>(
      loop_, NetworksOptions{.instance = instance_name(config_.state_dir),
                             .relay_program = beside + "brood-relay",
                             .names_program = beside + "brood-names",
                             .empty_dir = config_.state_dir + "/empty",
                             .relay_uid = own_area_->first_uid() + 1,
                             .mark = config_.state_dir + "/router"});
}

base::Status Agent::take_state_dir() {
  BROOD_CHECK(base::make_directories(config_.state_dir, 0700));
  BROOD_CHECK(base::make_directories(config_.run_dir, 0755));
  BROOD_TRY(state_lock_,
            base::open_at(AT_FDCWD, config_.state_dir + "/lock", O_RDWR | O_CREAT, 0600));
  if (::flock(state_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::fail_because("another agent uses the state directory " + config_.state_dir,
                              "stop it, or give this one another --state-dir");
  }
  return {};
}

// The slots lie on a file system that only this agent's mount namespace has: it goes with the
// agent, however that ends.
base::Status Agent::make_slots() {
  const std::string directory = config_.state_dir + "/slots";
  BROOD_CHECK(base::make_directories(directory, 0700));
  if (::mount("tmpfs", directory.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") !=
      0) {
    return base::fail_errno("mount a tmpfs at", directory);
  }
  BROOD_TRY(slots_, rootfs::CodeSlots::make(directory));
  return {};
}

base::Status Agent::open_stores() {
  BROOD_TRY(registry_, Registry::open(config_.state_dir + "/registry.db"));
  BROOD_TRY(code_, CodeStore::open(config_, own_area_->first_uid(), host_mounts_.get(), *disk_));
  if (const auto used = registry_->code_in_use()) {
    code_->collect(*used);
  }
  BROOD_TRY(layers_, Layers::open({.registry = *registry_,
                                   .code = *code_,
                                   .disk = *disk_,
                                   .functions = [this](std::string_view layer) {
                                     return functions_with_layer(layer);
                                   }}));
  BROOD_TRY(LogStore logs, LogStore::open(config_.state_dir + "/logs"));
  log_store_ = std::make_unique<LogStore>(std::move(logs));
  BROOD_TRY(book_, CommandBook::open(
                       {.loop = loop_, .disk = *disk_, .registry = *registry_, .turns = output_},
                       config_.state_dir + "/command-logs"));
  return {};
}

PoolContext Agent::pool_context() {
  return PoolContext{.loop = loop_,
                     .maker = *maker_,
                     .config = config_,
                     .cgroups = limits_.cgroups,
                     .features = features_,
                     .sandbox_filter = sandbox_filter_,
                     .strict_filter = strict_filter_,
                     .zygote_filter = zygote_filter_,
                     .slots = *slots_,
                     .output = output_,
                     .networks = networks_.get(),
                     .busy = [this] { return running_ > 0; },
                     .room = [this](Need need) { return room(need); },
                     .make_room = [this] { make_room(); },
                     .count = [this](int change) { count_sandbox(change); },
                     .free_area = [this] { return commands_->free_area(); }};
}

// --- room for sandboxes --------------------------------------------------------------------------

bool Agent::room(Need need) const {
  const auto most = static_cast<std::size_t>(config_.max_sandboxes);
  const std::size_t kept = need == Need::stock ? waiting_for_room() : 0;
  return static_cast<std::size_t>(sandbox_count_) + kept < most;
}

std::size_t Agent::waiting_for_room() const {
  std::size_t waiting = 0;
  for (const auto& [name, runtime] : pools_) {
    waiting += runtime.pool->waiting();
  }
  return waiting;
}

// A full host still serves whoever waits: what idles is ended, the longest idle first, then what is
// ready and not asked for.
void Agent::make_room() {
  while (making_room_ < waiting_for_room() && end_longest_idle()) {
    ++making_room_;
  }
}

bool Agent::end_longest_idle() {
  FunctionRunner* longest = nullptr;
  for (const auto& [name, runner] : runners_) {
    const auto since = runner->idle_since_ns();
    if (since && (longest == nullptr || *since < *longest->idle_since_ns())) {
      longest = runner.get();
    }
  }
  if (longest != nullptr) {
    longest->end_longest_idle();
    return true;
  }
  for (const auto& [name, runtime] : pools_) {
    if (runtime.pool->ready() > 0 && runtime.pool->waiting() == 0) {
      runtime.pool->end_one_ready();
      return true;
    }
  }
  return false;
}

void Agent::count_sandbox(int change) {
  const bool was_full = !room(Need::stock);
  sandbox_count_ += change;
  if (change > 0) {
    return;
  }
  making_room_ -= making_room_ > 0 ? 1 : 0;
  if (was_full) {
    for (const auto& [name, runtime] : pools_) {
      runtime.pool->room_came();
    }
  }
}

RuntimePool* Agent::add_runtime(const RuntimeConfig& config) {
  const auto metrics = metrics_->runtime(config.name);
  PoolContext context = pool_context();
  context.restarted = [metrics] { metrics->zygote_restarted(); };
  auto& runtime = pools_[config.name];
  runtime = {std::make_unique<RuntimePool>(std::move(context), config), metrics};
  return runtime.pool.get();
}

void Agent::find_runtimes() {
  for (const RuntimeConfig& runtime : config_.runtimes) {
    add_runtime(runtime);
  }
}

// A runtime that is not configured is an image, under its name: with an interpreter that
// language's, else one for native functions.
RuntimePool* Agent::pool_of(const std::string& runtime) {
  if (const auto found = pools_.find(runtime); found != pools_.end()) {
    return found->second.pool.get();
  }
  RuntimeConfig config;
  config.name = runtime;
  config.image = runtime;
  auto image = rootfs::open_image(config_.images_dir, config.image);
  if (!image && runtime == kNativeRuntime) {
    config.image = kDefaultImage;
    image = rootfs::open_image(config_.images_dir, config.image);
  }
  if (!image) {
    return nullptr;
  }
  if (image->manifest.interpreter.empty()) {
    const auto user = user_of(config_.images_dir, image->manifest, image->manifest.config.user);
    if (!user) {
      spdlog::error("runtime {}: {}", runtime, user.error().message());
      return nullptr;
    }
    config.uid = user->uid;
    config.gid = user->gid;
    config.writable_root = is_imported(image->manifest);
  }
  return add_runtime(config);
}

base::Status Agent::load_functions() {
  BROOD_TRY(const std::vector<Function> functions, registry_->load_all());
  for (const Function& function : functions) {
    auto deployment = make_deployment(function);
    if (!deployment) {
      spdlog::error("function {} is not served: {}", function.name, deployment.error().message());
      continue;
    }
    BROOD_TRY(const auto runner, runner_for(function.name));
    runner->deploy(*deployment);
    (*deployment)->pool->start();
  }
  return {};
}

// --- functions -----------------------------------------------------------------------------------

base::Error Agent::no_runtime(const std::string& name) const {
  return base::Error::because("there is no runtime '" + name + "' in " + config_.images_dir,
                              "build its image: make -f Makefile.rootfs " + name);
}

// A function with a network has a pool that no function with another one has, so that its sandboxes
// have their network before they are bound; it lives as long as a deployment holds it.
base::Status Agent::choose_pool(Deployment& deployment) {
  const FunctionSettings& settings = deployment.function.settings;
  deployment.pool = pool_of(settings.runtime);
  if (deployment.pool == nullptr) {
    return base::fail(no_runtime(settings.runtime));
  }
  BROOD_TRY(const auto network, network_of(network_settings(settings)));
  if (network == nullptr) {
    return {};
  }
  if (auto problem = Networks::problem(*network); !problem.empty()) {
    return base::fail_because(std::move(problem));
  }
  const auto same = [&](const auto& one) {
    return one.second.runtime == settings.runtime && one.second.key == network->key;
  };
  auto found = std::find_if(network_pools_.begin(), network_pools_.end(), same);
  if (found == network_pools_.end()) {
    RuntimeConfig config = deployment.pool->config();
    config.name = settings.runtime + ".N" + network_tag(*network);
    if (pools_.contains(config.name)) {  // it stops
      config.name += ".R" + std::to_string(++network_pool_names_);
    }
    config.pool_min = std::min(config.pool_min, kNetworkPool);
    config.network = network;
    add_runtime(config);
    found = network_pools_.emplace(config.name, NetworkPool{settings.runtime, network->key}).first;
  }
  deployment.pool = pools_.find(found->first)->second.pool.get();
  deployment.hold = hold_pool(*deployment.pool);
  return {};
}

std::shared_ptr<void> Agent::hold_pool(RuntimePool& pool) {
  ++network_pools_.at(pool.name()).held;
  return {nullptr, [this, name = pool.name()](void*) {
            // Not at once: whoever lets go may be about to hand a sandbox back.
            boost::asio::post(loop_, [this, name] { release_pool(name); });
          }};
}

void Agent::release_pool(const std::string& name) {
  const auto found = network_pools_.find(name);
  if (draining_ || --found->second.held > 0) {
    return;
  }
  network_pools_.erase(found);
  pools_.find(name)->second.pool->stop([this, name] {
    boost::asio::post(loop_, [this, name] {
      if (!draining_) {
        stopped_pools_.push_back(pools_.extract(name));
      }
    });
  });
}

base::Result<std::shared_ptr<Deployment>> Agent::make_deployment(const Function& function) {
  auto deployment = std::make_shared<Deployment>();
  deployment->function = function;
  BROOD_CHECK(choose_pool(*deployment));
  const FunctionSettings& settings = function.settings;
  if (deployment->pool->language() == Language::native) {
    BROOD_TRY(const rootfs::Image image,
              rootfs::open_image(config_.images_dir, deployment->pool->image_name()));
    BROOD_TRY(NativeProgram program, native_program(settings, image.manifest.config));
    deployment->handler = std::move(program.handler);
    deployment->environment = std::move(program.environment);
  } else {
    deployment->handler = settings.handler;
    deployment->environment = environment_block(settings, deployment->pool->language());
  }
  BROOD_TRY(const base::UniqueFd tree, code_->open_tree(function.code_digest));
  BROOD_TRY(deployment->code, slots_->code(tree.get()));
  BROOD_CHECK(add_layers(*deployment));
  deployment->compiled = code_->compiled(function.code_digest, function.settings.handler,
                                         deployment->pool->image_digest());
  return deployment;
}

base::Status Agent::add_layers(Deployment& deployment) {
  if (deployment.function.layer_digests.empty()) {
    return {};
  }
  BROOD_TRY(const rootfs::Image image,
            rootfs::open_image(config_.images_dir, deployment.pool->image_name()));
  if (!takes_layers(image.root.get())) {
    return base::fail_because("layers: image '" + deployment.pool->image_name() +
                                  "' has files of its own in " BROOD_LAYERS_DIR,
                              "use another runtime, or put the layers' files beside the code");
  }
  BROOD_TRY(deployment.layers, hold_layers(*slots_, *code_, deployment.function.layer_digests));
  return {};
}

base::Result<std::shared_ptr<FunctionRunner>> Agent::runner_for(const std::string& name) {
  if (const auto found = runners_.find(name); found != runners_.end()) {
    return found->second;
  }
  BROOD_TRY(auto log, log_store_->writer(name));
  const RunnerContext context{
      .loop = loop_,
      .config = config_,
      .soft_limits = !limits_.missing.empty(),
      .count_running = [this](int change) { running_ += change; },
      .crowded = [this] { return !room(Need::claim) && making_room_ < waiting_for_room(); },
      .metrics = metrics_.get(),
      .emptied = [this] { forget_removed(); }};
  auto runner = std::make_shared<FunctionRunner>(context, std::move(log), metrics_->function(name));
  runners_.emplace(name, runner);
  return runner;
}

std::unique_ptr<Upload> Agent::begin_upload() {
  return code_->begin_upload();
}
bool Agent::has_code(std::string_view digest) const {
  return code_->has(digest);
}

void Agent::deploy(DeployRequest request, Completion<Deployed> done) {
  if (request.settings.runtime == kAutoRuntime && !draining_) {
    return choose_runtime_for(std::move(request), std::move(done));
  }
  deploy_to(std::move(request), false, std::move(done));
}

// The handler's source is read in a sandbox of the plainest Python runtime, and not run. Where it
// cannot be read that runtime is chosen, and what is wrong is told by what follows.
void Agent::choose_runtime_for(DeployRequest request, Completion<Deployed> done) {
  const std::string plain(kPythonRuntime);
  request.settings.runtime = plain;
  RuntimePool* pool = pool_of(plain);
  const std::string handler =
      request.settings.handler.empty() ? "handler.main" : request.settings.handler;
  const auto file = is_module_handler(handler) && code_->has(request.code_digest)
                        ? code_->module_file(request.code_digest, handler, Language::python)
                        : std::nullopt;
  const auto tree = file ? code_->open_tree(request.code_digest)
                         : base::Result<base::UniqueFd>(base::fail_because("no handler"));
  auto mount =
      tree ? slots_->code(tree->get()) : base::Result<rootfs::HeldMount>(base::fail(tree.error()));
  if (pool == nullptr || !mount) {
    return deploy_to(std::move(request), true, std::move(done));
  }
  auto digests = layers_->resolve(request.settings.layers);
  auto layers = digests && !digests->empty() ? hold_layers(*slots_, *code_, *digests)
                                             : base::Result<rootfs::HeldMount>();
  if (!digests || !layers) {
    return deploy_to(std::move(request), true, std::move(done));
  }
  const auto asked = std::make_shared<DeployRequest>(std::move(request));
  const auto job = std::make_shared<CompileJob>(
      loop_, *pool, std::move(*mount), *file, CompileFor::imports,
      [this, asked, done = std::move(done)](const Compiled& found) mutable {
        disk_->run(
            [images = config_.images_dir, imports = imports_of(found.code)] {
              return choose_runtime(imports, python_runtimes(images));
            },
            [this, asked, done = std::move(done)](const std::string& chosen) mutable {
              asked->settings.runtime = chosen.empty() ? std::string(kPythonRuntime) : chosen;
              deploy_to(std::move(*asked), true, std::move(done));
            });
      });
  job->show_layers(std::move(*layers));
  job->start();
}

void Agent::deploy_to(DeployRequest request, bool runtime_chosen, Completion<Deployed> done) {
  const auto refuse = [&](Failure failure) {
    boost::asio::post(loop_, [done = std::move(done), failure = std::move(failure)] {
      done(tl::unexpected(failure));
    });
  };
  if (draining_) {
    return refuse({503, "draining", "the agent is stopping"});
  }
  if (auto problem = validate_name(request.name); !problem.empty()) {
    return refuse(invalid("name: " + problem));
  }
  if (auto problem = validate(request.settings); !problem.empty()) {
    return refuse(invalid(std::move(problem)));
  }
  if (!code_->has(request.code_digest)) {
    return refuse({400, "code_not_found",
                   "there is no code sha256:" + request.code_digest + "; upload it first"});
  }
  auto layers = layers_->resolve(request.settings.layers);
  if (!layers) {
    return refuse(std::move(layers.error()));
  }
  Function function;
  function.layer_digests = std::move(*layers);
  function.runtime_chosen = runtime_chosen;
  function.name = request.name;
  function.code_digest = request.code_digest;
  function.settings = std::move(request.settings);
  function.deployed_at_ms = unix_ms();
  RuntimePool* pool = pool_of(function.settings.runtime);
  if (pool == nullptr) {
    return refuse(invalid(no_runtime(function.settings.runtime).message()));
  }
  if (auto problem = fit_settings(pool->language(), function.settings); !problem.empty()) {
    return refuse(invalid(std::move(problem)));
  }
  auto deployment = make_deployment(function);
  if (!deployment) {
    const bool asked = deployment.error().code() == 0;
    return refuse(asked ? invalid(deployment.error().message()) : internal(deployment.error()));
  }
  if (!changing_.insert(function.name).second) {
    return refuse(conflict("another change of function '" + function.name + "' is under way"));
  }
  (*deployment)->pool->start();
  compile(*deployment,
          [this, deployment = *deployment, done = std::move(done)](std::string problem) mutable {
            std::vector<std::string> warnings;
            if (!problem.empty()) {
              warnings.push_back(std::move(problem));
            }
            store(deployment, std::move(warnings), std::move(done));
          });
}

void Agent::compile(const std::shared_ptr<Deployment>& deployment,
                    std::function<void(std::string problem)> done) {
  const Function& function = deployment->function;
  const Language language = deployment->pool->language();
  if (function.settings.handler.empty()) {  // the image's own program
    return boost::asio::post(loop_, [done = std::move(done)] { done({}); });
  }
  const auto file = code_->module_file(function.code_digest, function.settings.handler, language);
  if (!file || !deployment->compiled.empty() || !can_prepare(language, *file)) {
    boost::asio::post(
        loop_, [done = std::move(done), missing = !file, handler = function.settings.handler] {
          done(missing ? "the code has no file for the handler " + handler : std::string{});
        });
    return;
  }
  auto tree = code_->open_tree(function.code_digest);
  auto mount =
      tree ? slots_->code(tree->get()) : base::Result<rootfs::HeldMount>(base::fail(tree.error()));
  if (!mount) {
    boost::asio::post(
        loop_, [done = std::move(done), problem = mount.error().message()] { done(problem); });
    return;
  }
  const auto job = std::make_shared<CompileJob>(
      loop_, *deployment->pool, std::move(*mount), *file, CompileFor::code,
      [this, deployment, done = std::move(done)](Compiled compiled) {
        if (!compiled.problem.empty()) {
          return done(compiled.problem);
        }
        const Function& compiled_for = deployment->function;
        deployment->compiled = std::move(compiled.code);
        if (const auto kept =
                code_->keep_compiled(compiled_for.code_digest, compiled_for.settings.handler,
                                     deployment->pool->image_digest(), deployment->compiled);
            !kept) {
          spdlog::warn("keeping the compiled handler of {}: {}", compiled_for.name,
                       kept.error().message());
        }
        done({});
      });
  job->start();
}

void Agent::store(const std::shared_ptr<Deployment>& deployment, std::vector<std::string> warnings,
                  Completion<Deployed> done) {
  disk_->run([this, function = deployment->function] { return registry_->put(function); },
             [this, deployment, warnings = std::move(warnings),
              done = std::move(done)](base::Result<Function> stored) mutable {
               changing_.erase(deployment->function.name);
               if (!stored) {
                 return done(tl::unexpected(internal(stored.error())));
               }
               const bool created = !runners_.contains(stored->name);
               deployment->function = *stored;
               const auto runner = runner_for(stored->name);
               if (!runner) {
                 return done(tl::unexpected(internal(runner.error())));
               }
               (*runner)->deploy(deployment);
               spdlog::info("deployed {} version {}", stored->name, stored->version);
               done(Deployed{*stored, created, std::move(warnings)});
             });
}

void Agent::remove(std::string name, Completion<Function> done) {
  const auto found = runners_.find(name);
  if (found == runners_.end() || !changing_.insert(name).second) {
    const Failure failure =
        found == runners_.end()
            ? not_found(name)
            : conflict("another change of function '" + name + "' is under way");
    boost::asio::post(loop_, [done = std::move(done), failure] { done(tl::unexpected(failure)); });
    return;
  }
  disk_->run([this, name] { return registry_->remove(name); },
             [this, name, done = std::move(done)](base::Result<Registry::Removed> removed) {
               changing_.erase(name);
               if (!removed) {
                 return done(tl::unexpected(internal(removed.error())));
               }
               const auto runner = runners_.extract(name).mapped();
               const Function function = runner->deployment().function;
               runner->retire();
               if (const auto forgotten = log_store_->remove(name); !forgotten) {
                 spdlog::warn("removing the log of {}: {}", name, forgotten.error().message());
               }
               removed_.push_back(runner);
               forget_removed();
               done(function);
             });
}

void Agent::publish_layer(std::string name, std::string digest, Completion<Layer> done) {
  layers_->publish({std::move(name), std::move(digest), unix_ms()}, std::move(done));
}

void Agent::remove_layer(std::string name, Completion<Layer> done) {
  layers_->remove(name, std::move(done));
}

std::vector<LayerStatus> Agent::layers() const {
  return layers_->list();
}

std::vector<std::string> Agent::functions_with_layer(std::string_view layer) const {
  std::vector<std::string> names;
  for (const auto& [name, runner] : runners_) {
    const auto& layers = runner->deployment().function.settings.layers;
    if (std::find(layers.begin(), layers.end(), layer) != layers.end()) {
      names.push_back(name);
    }
  }
  return names;
}

// Later: the last call of one may still be under way.
void Agent::forget_removed() {
  boost::asio::post(
      loop_, [this] { std::erase_if(removed_, [](const auto& old) { return old->quiet(); }); });
}

FunctionStatus Agent::with_limits(FunctionStatus status) const {
  status.limits_not_enforced = limits_.missing;
  return status;
}

std::vector<FunctionStatus> Agent::list() const {
  std::vector<FunctionStatus> all;
  all.reserve(runners_.size());
  for (const auto& [name, runner] : runners_) {
    all.push_back(with_limits(runner->status()));
  }
  return all;
}

tl::expected<FunctionStatus, Failure> Agent::describe(std::string_view name) const {
  const auto found = runners_.find(name);
  if (found == runners_.end()) {
    return tl::unexpected(not_found(name));
  }
  return with_limits(found->second->status());
}

std::shared_ptr<InvocationHandle> Agent::invoke(InvocationRequest request,
                                                std::function<void(Outcome&&)> done) {
  const auto found = runners_.find(request.function);
  if (found == runners_.end() || draining_) {
    return nullptr;
  }
  ++invocations_;
  return found->second->invoke(std::move(request), std::move(done));
}

// --- commands ------------------------------------------------------------------------------------

void Agent::make_commands() {
  commands_ = std::make_unique<Commands>(CommandsContext{
      .loop = loop_,
      .config = config_,
      .book = *book_,
      .mounter = *mounter_,
      .networks = *networks_,
      .host_mounts = host_mounts_.get(),
      .soft_limits = [this] { return !limits_.missing.empty(); },
      .count_running = [this](int change) { running_ += change; },
      .add_pool = [this](const RuntimeConfig& config) { return add_runtime(config); },
      .has_pool = [this](const std::string& name) { return pools_.contains(name); },
      .drop_pool =
          [this](const std::string& name) { stopped_pools_.push_back(pools_.extract(name)); },
      .find_sandbox =
          [this](std::string_view id) {
            for (const auto& [name, runtime] : pools_) {
              if (auto sandbox = runtime.pool->find(id)) {
                return sandbox;
              }
            }
            return std::shared_ptr<Sandbox>();
          }});
}

tl::expected<std::shared_ptr<CommandHandle>, Failure> Agent::run(CommandRequest request,
                                                                 CommandCallbacks callbacks) {
  if (draining_) {
    return tl::unexpected(Failure{503, "draining", "the agent is stopping"});
  }
  return commands_->run(std::move(request), std::move(callbacks));
}

tl::expected<std::shared_ptr<CommandHandle>, Failure> Agent::execute(std::string_view sandbox,
                                                                     CommandRequest request,
                                                                     CommandCallbacks callbacks) {
  return commands_->execute(sandbox, std::move(request), std::move(callbacks));
}

tl::expected<void, Failure> Agent::signal(std::string_view sandbox, std::uint32_t process,
                                          int number) {
  return commands_->signal(sandbox, process, number);
}

tl::expected<void, Failure> Agent::set_paused(std::string_view sandbox, bool paused) {
  return commands_->set_paused(sandbox, paused);
}

KeptCommands& Agent::kept_commands() {
  return *book_;
}
const KeptCommands& Agent::kept_commands() const {
  return *book_;
}

// --- what there is -------------------------------------------------------------------------------

std::vector<SandboxStatus> Agent::sandboxes() const {
  std::vector<SandboxStatus> all;
  for (const auto& [name, runtime] : pools_) {
    runtime.pool->list(all);
  }
  return all;
}

AgentStatus Agent::status() const {
  AgentStatus status;
  status.version = BROOD_VERSION;
  status.pid = ::getpid();
  status.uptime_ms = (monotonic_ns() - started_ns_) / 1'000'000;
  status.limits = config_.limits == LimitsMode::enforce ? "enforce" : "best-effort";
  status.limits_not_enforced = limits_.missing;
  status.draining = draining_;
  for (const auto& [name, runtime] : pools_) {
    status.runtimes.push_back(runtime.pool->status());
  }
  status.functions = runners_.size();
  status.invocations = invocations_;
  return status;
}

std::string Agent::metrics() const {
  for (const auto& [name, runtime] : pools_) {
    runtime.metrics->set_sandboxes(runtime.pool->counts());
  }
  for (const auto& [name, runner] : runners_) {
    runner->report_queue();
  }
  return metrics_->text();
}

tl::expected<std::vector<LogLine>, Failure> Agent::logs(std::string_view name, std::size_t tail,
                                                        std::uint64_t after_sequence) const {
  const auto found = runners_.find(name);
  if (found == runners_.end()) {
    return tl::unexpected(not_found(name));
  }
  auto lines = log_store_->read(std::string(name), tail, after_sequence);
  if (!lines) {
    return tl::unexpected(internal(lines.error()));
  }
  return std::move(*lines);
}

std::shared_ptr<void> Agent::follow_logs(std::string_view name, std::function<void()> more) {
  const auto found = runners_.find(name);
  return found == runners_.end() ? nullptr : found->second->follow(std::move(more));
}

// --- stopping ------------------------------------------------------------------------------------

void Agent::drain(std::chrono::milliseconds patience, std::function<void()> done) {
  draining_ = true;
  patience_ends_ns_ = monotonic_ns() + std::chrono::nanoseconds(patience).count();
  commands_->begin_to_stop();
  await_invocations([this, done = std::move(done)]() mutable { finish_drain(std::move(done)); });
}

void Agent::await_invocations(std::function<void()> done) {
  const bool waiting = std::any_of(runners_.begin(), runners_.end(),
                                   [](const auto& named) { return named.second->has_waiting(); });
  if ((running_ == 0 && !waiting) || monotonic_ns() >= patience_ends_ns_) {
    return done();
  }
  const auto look =
      std::make_shared<boost::asio::steady_timer>(loop_, std::chrono::milliseconds(5));
  look->async_wait([this, look, done = std::move(done)](const boost::system::error_code&) mutable {
    await_invocations(std::move(done));
  });
}

void Agent::finish_drain(std::function<void()> done) {
  for (const auto& [name, runner] : runners_) {
    runner->stop();
  }
  for (const auto& runner : removed_) {
    runner->stop();
  }
  commands_->stop();
  stop_pools([this, done = std::move(done)]() mutable {
    const auto leave = [this, done = std::move(done)] { leave_host(done); };
    book_->when_settled(leave);
  });
}

void Agent::leave_host(const std::function<void()>& done) {
  maker_->finish();
  disk_->finish();
  mounter_->finish();
  networks_->finish();
  metrics_->close();
  runners_.clear();
  removed_.clear();
  if (const auto removed = limits_.cgroups.remove();
      !removed || *removed == cgroups::Removed::busy) {
    spdlog::error("the agent's cgroup could not be removed: {}",
                  removed ? "something in it does not end" : removed.error().message());
  }
  done();
}

void Agent::stop_pools(std::function<void()> done) {
  const auto left = std::make_shared<std::size_t>(pools_.size() + 1);
  const auto one_less = [left, done = std::move(done)] {
    if (--*left == 0) {
      done();
    }
  };
  for (const auto& [name, runtime] : pools_) {
    runtime.pool->stop(one_less);
  }
  boost::asio::post(loop_, one_less);
}

}  // namespace agent
