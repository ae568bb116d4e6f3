// From a request that has come whole to what answers it, also where that comes bit by bit.
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "agent/clock.h"
#include "api/http_connection.h"
#include "api/json.h"
#include "base/descriptors.h"

namespace api {

void HttpConnection::serve() {
  phase_ = Phase::serving;
  deadline_ = kNever;
  body_.resize(upload_ ? 0 : static_cast<std::size_t>(body_size_));
  switch (route_.endpoint) {
    case Endpoint::upload_code:
      serve_upload();
      break;
    case Endpoint::deploy:
      serve_deploy();
      break;
    case Endpoint::remove:
      serve_remove();
      break;
    case Endpoint::publish_layer:
      serve_publish_layer();
      break;
    case Endpoint::remove_layer:
      serve_remove_layer();
      break;
    case Endpoint::invoke:
      serve_invoke();
      break;
    case Endpoint::logs:
    case Endpoint::command_logs:
      serve_logs();
      break;
    case Endpoint::run:
    case Endpoint::execute:
      serve_command();
      break;
    case Endpoint::attach:
      serve_attach();
      break;
    case Endpoint::wait_command:
      serve_wait();
      break;
    case Endpoint::remove_command:
      serve_remove_command();
      break;
    case Endpoint::detach:
      respond(done_reply(host_.service.kept_commands().detach(route_.command)));
      break;
    case Endpoint::signal:
      respond(done_reply(host_.service.signal(route_.sandbox, route_.process, route_.signal)));
      break;
    case Endpoint::pause:
    case Endpoint::resume:
      respond(
          done_reply(host_.service.set_paused(route_.sandbox, route_.endpoint == Endpoint::pause)));
      break;
    default:
      respond(answer(route_, host_.service));
      break;
  }
  read_more();
}

void HttpConnection::serve_invoke() {
  invoke(BodyTaken::yes);
}

// A payload over the limit is an ending of an invocation like any other: the function's log and
// counters have it.
void HttpConnection::invoke(BodyTaken body_taken) {
  agent::InvocationRequest request;
  request.function = route_.name;
  request.kind = payload_kind(content_type_);
  if (body_taken == BodyTaken::yes) {
    request.body = std::move(body_);
  } else {
    request.body_refused = true;
  }
  if (request.body.empty() && request.kind == agent::ContentKind::json) {
    request.body = "null";
  }
  if (!content_type_.empty()) {
    request.content_type = std::move(content_type_);
  }
  request.received_ns = received_ns_;
  request.client_uid = client_uid_;
  invocation_ = host_.service.invoke(std::move(request),
                                     [self = shared_from_this()](agent::Outcome&& outcome) {
                                       self->invocation_.reset();
                                       self->respond(reply_of(std::move(outcome)));
                                     });
  if (!invocation_) {
    respond(uninvoked_reply(route_.name, host_.service));
  }
}

void HttpConnection::serve_upload() {
  // The upload lives until it is done, whatever becomes of the connection.
  std::shared_ptr<agent::Upload> upload = std::move(upload_);
  upload->finish(route_.file, [self = shared_from_this(),
                               upload](tl::expected<std::string, agent::Failure> digest) {
    self->respond(uploaded_reply(std::move(digest)));
  });
}

void HttpConnection::serve_deploy() {
  auto request = parse_deploy(route_.name, body_);
  if (!request) {
    return respond(reply_of(Refusal{400, "invalid_argument", request.error().message(), {}}));
  }
  request->client_uid = client_uid_;
  host_.service.deploy(*std::move(request), [self = shared_from_this()](auto&& deployed) {
    self->respond(deployed_reply(deployed));
  });
}

void HttpConnection::serve_remove() {
  host_.service.remove(route_.name, [self = shared_from_this()](auto&& removed) {
    self->respond(removed_reply(removed));
  });
}

void HttpConnection::serve_publish_layer() {
  auto digest = parse_layer(body_);
  if (!digest) {
    return respond(reply_of(Refusal{400, "invalid_argument", digest.error().message(), {}}));
  }
  host_.service.publish_layer(
      route_.name, *std::move(digest),
      [self = shared_from_this()](auto&& layer) { self->respond(layer_reply(layer)); });
}

void HttpConnection::serve_remove_layer() {
  host_.service.remove_layer(route_.name, [self = shared_from_this()](auto&& layer) {
    self->respond(layer_reply(layer));
  });
}

void HttpConnection::serve_logs() {
  log_.emplace(host_.service, route_);
  auto text = log_->first();
  if (!text) {
    return respond(reply_of(text.error()));
  }
  Reply reply;
  reply.content_type = "application/x-ndjson";
  reply.body = *std::move(text);
  if (route_.logs.follow) {
    return stream_log(std::move(reply));
  }
  respond(std::move(reply));
}

// The answer is two lines: that the command runs, with its streams as descriptors, and how it
// ended. An ending without a beginning is the second line alone.
void HttpConnection::serve_command() {
  const bool more = route_.endpoint == Endpoint::execute;
  auto request = more ? parse_execution(body_) : parse_command(body_);
  if (!request) {
    return respond(reply_of(Refusal{400, "invalid_argument", request.error().message(), {}}));
  }
  if (descriptors_.size() != std::exchange(descriptors_expected_, 0)) {
    descriptors_.clear();
    return respond(reply_of(
        Refusal{400, "invalid_argument", "not as many descriptors came as were announced", {}}));
  }
  for (const agent::Bind& bind : request->binds) {
    if (bind.descriptor >= descriptors_.size()) {
      return respond(reply_of(Refusal{
          400, "invalid_argument", "binds: there is no descriptor for " + bind.target, {}}));
    }
  }
  ucred client{};
  socklen_t size = sizeof client;
  if (::getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &client, &size) != 0) {
    return close();
  }
  request->client_gid = client.gid;
  request->descriptors =
      std::make_shared<const std::vector<base::UniqueFd>>(std::exchange(descriptors_, {}));
  request->client_uid = client_uid_;
  command_left_ = !more && request->detached;
  last_request_ = !command_left_;
  hold_command(more
                   ? host_.service.execute(route_.sandbox, *std::move(request), command_callbacks())
                   : host_.service.run(*std::move(request), command_callbacks()));
}

agent::CommandCallbacks HttpConnection::command_callbacks() {
  return {
      .started = [self = shared_from_this()](
                     agent::CommandStarted started) { self->command_started(std::move(started)); },
      .done = [self =
                   shared_from_this()](const agent::CommandEnd& end) { self->command_ended(end); }};
}

void HttpConnection::hold_command(
    tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure>&& command) {
  if (!command) {
    command_left_ = false;
    return respond(reply_of(command.error()));
  }
  command_ = *std::move(command);
}

void HttpConnection::serve_attach() {
  last_request_ = true;
  hold_command(host_.service.kept_commands().attach(route_.command, command_callbacks()));
}

void HttpConnection::serve_wait() {
  auto waiting = host_.service.kept_commands().wait(
      route_.command, [self = shared_from_this()](const agent::KeptCommand& command) {
        self->waiting_ = nullptr;
        self->respond(command_reply(command));
      });
  if (!waiting) {
    return respond(reply_of(waiting.error()));
  }
  waiting_ = *std::move(waiting);
}

void HttpConnection::serve_remove_command() {
  using Running = agent::KeptCommands::Running;
  host_.service.kept_commands().remove(
      route_.command, route_.force ? Running::kill : Running::refuse,
      [self = shared_from_this()](auto&& removed) { self->respond(command_reply(removed)); });
}

// In one piece with the descriptors: they come with its first byte. The socket's buffer is empty,
// and takes it whole.
void HttpConnection::command_started(agent::CommandStarted&& started) {
  if (phase_ == Phase::closed) {
    return;
  }
  if (std::exchange(command_left_, false)) {
    command_.reset();
    return respond(command_reply(host_.service.kept_commands().find(started.command), 201));
  }
  Reply reply;
  reply.content_type = "application/x-ndjson";
  std::string bytes;
  append_head(reply, Framing::chunked, Persistence::close, bytes);
  bytes += chunk_of(command_started_json(started));
  phase_ = Phase::streaming;
  if (base::send_with_descriptors(socket_.native_handle(), bytes, started.streams, MSG_DONTWAIT) !=
      static_cast<ssize_t>(bytes.size())) {
    close();
  }
}

void HttpConnection::command_ended(const agent::CommandEnd& end) {
  command_.reset();
  if (phase_ == Phase::closed) {
    return;
  }
  if (std::exchange(command_left_, false)) {  // it has not begun
    return respond(reply_of(agent::Failure{500, "internal", end.message}));
  }
  if (phase_ == Phase::serving) {
    Reply reply;
    reply.content_type = "application/x-ndjson";
    reply.body = command_end_json(end);
    return respond(std::move(reply));
  }
  log_ends_ = true;
  write_log(chunk_of(command_end_json(end)) + std::string(kLastChunk));
}

// --- logs ----------------------------------------------------------------------------------------

void HttpConnection::stream_log(Reply&& reply) {
  last_request_ = true;
  phase_ = Phase::streaming;
  log_chunked_ = parser_->get().version() == 11;
  std::string bytes;
  append_head(reply, log_chunked_ ? Framing::chunked : Framing::until_close, Persistence::close,
              bytes);
  if (!reply.body.empty()) {
    bytes += log_chunked_ ? chunk_of(reply.body) : reply.body;
  }
  // The service may call back in the middle of adding a line: look at the log from the loop, where
  // many lines are one look.
  const auto look = [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self && !std::exchange(self->log_grew_, true)) {
      asio::post(self->socket_.get_executor(), [self] { self->pump_log(); });
    }
  };
  log_watch_ = log_->follow(look);
  if (log_->ended()) {
    look();
  }
  write_log(std::move(bytes));
}

void HttpConnection::pump_log() {
  if (phase_ != Phase::streaming || log_writing_ || !log_) {
    return;
  }
  if (log_ends_) {
    return log_chunked_ ? write_log(std::string(kLastChunk)) : close();
  }
  if (!std::exchange(log_grew_, false)) {
    return;
  }
  const bool ended = log_->ended();  // before what it left is read
  if (std::string text = log_->next(); !text.empty()) {
    log_grew_ = ended;
    return write_log(log_chunked_ ? chunk_of(text) : std::move(text));
  }
  if (ended) {
    end_log();
  }
}

void HttpConnection::write_log(std::string bytes) {
  log_writing_ = true;
  deadline_ = agent::monotonic_ns() + ns_of(host_.options.body_timeout);
  out_body_ = std::move(bytes);
  asio::async_write(socket_, asio::buffer(out_body_),
                    [self = shared_from_this(), last = log_ends_](error_code error, std::size_t) {
                      self->log_writing_ = false;
                      if (self->phase_ != Phase::streaming) {
                        return;
                      }
                      if (error || last) {
                        return self->close();
                      }
                      self->deadline_ = kNever;
                      self->pump_log();
                    });
}

void HttpConnection::end_log() {
  log_ends_ = true;
  log_watch_.reset();
  pump_log();
}

}  // namespace api
