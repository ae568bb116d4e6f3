#include "agent/compile_job.h"

namespace agent {
namespace {

// After either the deployment goes on without compiled code. The first sandbox of a runtime has to
// wait for its image to be verified and its zygote to boot.
constexpr auto kWaitLimit = std::chrono::seconds(60);
constexpr auto kCompileLimit = std::chrono::seconds(20);

}  // namespace

CompileJob::CompileJob(boost::asio::io_context& loop, RuntimePool& pool, rootfs::HeldMount code,
                       std::string path, CompileFor purpose, std::function<void(Compiled)> done)
    : pool_(pool),
      code_(std::move(code)),
      path_(std::move(path)),
      purpose_(purpose),
      done_(std::move(done)),
      limit_(loop) {}

void CompileJob::start() {
  self_ = shared_from_this();
  end_after(kWaitLimit, "the runtime had no sandbox for it in time");
  pool_.claim(weak_from_this());
}

void CompileJob::end_after(std::chrono::seconds limit, const char* problem) {
  limit_.expires_after(limit);
  limit_.async_wait([weak = weak_from_this(), problem](const boost::system::error_code& error) {
    if (const auto job = weak.lock(); job && !error) {
      job->give_up(problem);
    }
  });
}

bool CompileJob::offer(const std::shared_ptr<Sandbox>& sandbox) {
  if (done_ == nullptr) {
    return false;
  }
  end_after(kCompileLimit, "compiling took too long");
  sandbox_ = sandbox;
  sandbox->set_owner(this);
  sandbox->set_state(Sandbox::State::running);
  base::Status ready = sandbox->attach(code_);
  if (ready && layers_) {
    ready = sandbox->attach_layers(layers_);
  }
  if (ready) {
    ready = sandbox->gather().compile(1, path_,
                                      purpose_ == CompileFor::imports ? BROOD_FLAG_IMPORTS : 0U);
  }
  if (!ready) {
    give_up(ready.error().message());
    return true;
  }
  sandbox->send(nullptr);
  return true;
}

void CompileJob::refuse(const std::string& problem) {
  give_up(problem);
}
void CompileJob::on_ready(Sandbox& /*sandbox*/) {}
void CompileJob::on_loaded(Sandbox& sandbox) {
  sandbox.kill();
}
void CompileJob::on_output(Sandbox& /*sandbox*/, std::string_view /*bytes*/) {}

void CompileJob::on_answer(Sandbox& /*sandbox*/, Frame frame) {
  if (frame.kind == BROOD_FRAME_COMPILED && !frame.is_error()) {
    return finish({std::move(frame.parts[0]), ""});
  }
  finish({"", path_ + " does not compile: " + frame.parts[BROOD_ERROR_TYPE] + ": " +
                  frame.parts[BROOD_ERROR_MESSAGE]});
}

void CompileJob::on_gone(Sandbox& sandbox) {
  const auto self = std::exchange(self_, nullptr);
  give_up("the compiling sandbox ended");
  const auto keep = std::exchange(sandbox_, nullptr);
  pool_.retire(sandbox);
}

// Nothing is known of the file: each instance compiles it when it loads it.
void CompileJob::give_up(const std::string& problem) {
  finish({"", path_ + " could not be compiled beforehand: " + problem});
}

void CompileJob::finish(Compiled compiled) {
  const auto self = shared_from_this();
  limit_.cancel();
  if (sandbox_ != nullptr) {
    sandbox_->kill();  // `on_gone` lets go of this object
  } else {
    self_.reset();
  }
  if (const auto done = std::exchange(done_, nullptr)) {
    done(std::move(compiled));
  }
}

}  // namespace agent
