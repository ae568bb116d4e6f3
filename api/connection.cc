#include "api/http_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <utility>

#include "agent/clock.h"
#include "base/descriptors.h"

namespace api {
namespace {

constexpr std::size_t kReadSize = 16 << 10;
constexpr std::size_t kBodyStep = 256 << 10;  // how much of a body is asked for at once
constexpr std::int64_t kLingerNs = 2'000'000'000;

}  // namespace

// --- reading -------------------------------------------------------------------------------------

void HttpConnection::start() {
  become_idle();
  read_more();
}

void HttpConnection::become_idle() {
  phase_ = Phase::idle;
  idle_since_ = agent::monotonic_ns();
  deadline_ = idle_since_ + ns_of(host_.options.idle_timeout);
}

// At most one read is outstanding. One also waits while an invocation runs: it is how a client's
// hang-up is noticed, and costs nothing, because the next request needs it anyway.
void HttpConnection::read_more() {
  if (reading_ || input_ended_ || phase_ == Phase::closed) {
    return;
  }
  const asio::mutable_buffer target = read_target();
  if (target.size() == 0) {
    return;
  }
  reading_ = true;
  if (descriptors_expected_ > 0) {
    return read_with_descriptors(target);
  }
  socket_.async_read_some(target, [self = shared_from_this()](error_code error, std::size_t size) {
    self->on_read(error, size);
  });
}

// Asio's own reads leave descriptors behind, which the kernel then closes. So only a body that is
// announced to bring some is read like this, and nothing else pays for it.
void HttpConnection::read_with_descriptors(asio::mutable_buffer target) {
  socket_.async_wait(asio::socket_base::wait_read, [self = shared_from_this(),
                                                    target](error_code error) {
    if (error || self->phase_ == Phase::closed) {
      return self->on_read(error ? error : error_code(asio::error::operation_aborted), 0);
    }
    const ssize_t got =
        base::receive_with_descriptors(self->socket_.native_handle(), target.data(), target.size(),
                                       agent::kMostBinds, self->descriptors_, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
      return self->read_with_descriptors(target);
    }
    if (got <= 0) {
      return self->on_read(
          got == 0 ? error_code(asio::error::eof) : error_code(asio::error::connection_reset), 0);
    }
    self->on_read({}, static_cast<std::size_t>(got));
  });
}

asio::mutable_buffer HttpConnection::read_target() {
  if (phase_ == Phase::body && body_left_ > 0) {
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(body_left_, kBodyStep));
    if (upload_) {
      read_into_ = ReadInto::scratch;
      scratch_.resize(kBodyStep);
      return asio::buffer(scratch_.data(), step);
    }
    read_into_ = ReadInto::body;
    body_.resize(body_size_ + step);
    return asio::buffer(body_.data() + body_size_, step);
  }
  read_into_ = ReadInto::input;
  return in_.prepare(std::min(kReadSize, in_.max_size() - in_.size()));
}

void HttpConnection::on_read(error_code error, std::size_t size) {
  reading_ = false;
  if (phase_ == Phase::closed) {
    return;
  }
  if (error) {
    return on_end_of_input(error);
  }
  if (read_into_ == ReadInto::input) {
    in_.commit(size);
  } else if (phase_ == Phase::body) {
    body_left_ -= size;
    const bool taken = read_into_ == ReadInto::body ? (body_size_ += size, true)
                                                    : accept_body({scratch_.data(), size});
    if (!taken) {
      return refuse(too_large(body_use_, body_limit_));
    }
  }
  advance();
}

void HttpConnection::advance() {
  switch (phase_) {
    case Phase::idle:
    case Phase::head:
      return parse_head();
    case Phase::body:
      return read_body();
    case Phase::lingering:
      in_.clear();
      return read_more();
    default:  // a pipelined request: kept, up to kInputLimit, until its turn
      return read_more();
  }
}

void HttpConnection::parse_head() {
  if (phase_ == Phase::idle) {
    if (in_.size() == 0) {
      return read_more();
    }
    phase_ = Phase::head;
    deadline_ = agent::monotonic_ns() + ns_of(host_.options.head_timeout);
    head_size_ = 0;
    parser_.emplace();
    parser_->header_limit(kHeadLimit);
    parser_->body_limit(boost::none);
    parser_->get().body() = this;
  }
  while (!parser_->is_header_done()) {
    error_code error;
    const std::size_t taken = parser_->put(in_.cdata(), error);
    in_.consume(taken);
    head_size_ += taken;
    // Beast holds each call to the limit, not the head: line by line, it would take any number.
    if (head_size_ > kHeadLimit) {
      error = http::error::header_limit;
    }
    if (error == http::error::need_more) {
      return read_more();
    }
    if (error) {
      last_request_ = true;
      return refuse(refusal_of(error));
    }
  }
  on_head();
}

void HttpConnection::on_head() {
  received_ns_ = agent::monotonic_ns();
  last_request_ = last_request_ || !parser_->keep_alive();
  const Head head = read_head(*parser_);
  if (const auto refused = check_head(*parser_, head)) {
    last_request_ = true;
    return refuse(*refused);
  }
  auto routed = route(view(parser_->get().method_string()), view(parser_->get().target()));
  if (!routed) {
    return refuse(routed.error());
  }
  route_ = *std::move(routed);
  if (const auto refused = open_body(head)) {
    return refuse(*refused);
  }
  if (const auto refused = expect_descriptors(head)) {
    return refuse(*refused);
  }
  invite_body(head);
  read_body();
}

// Decides what becomes of the body before any of it is read.
std::optional<Refusal> HttpConnection::open_body(const Head& head) {
  body_use_ = body_use(route_.endpoint);
  const bool chunked = parser_->chunked();
  body_left_ = chunked ? 0 : parser_->content_length().value_or(0);
  if (body_use_ == BodyUse::none && (chunked || body_left_ > 0)) {
    return bad_request("this request takes no body");
  }
  if (!accepts(body_use_, head.content_type)) {
    return Refusal{415,
                   "unsupported_media_type",
                   "'" + std::string(head.content_type) + "' is not what this path takes",
                   {}};
  }
  if (!head.file_name.empty() && route_.endpoint == Endpoint::upload_code) {
    if (!is_file_name(head.file_name)) {
      return Refusal{400, "invalid_argument", "Brood-File-Name is a name without its folder", {}};
    }
    route_.file = head.file_name;
  }
  body_limit_ = body_use_ == BodyUse::payload    ? host_.service.payload_limit()
                : body_use_ == BodyUse::archive  ? host_.options.archive_limit
                : body_use_ == BodyUse::document ? host_.options.document_limit
                                                 : 0;
  if (body_left_ > body_limit_) {
    return too_large(body_use_, body_limit_);
  }
  content_type_ = head.content_type;
  phase_ = Phase::body;
  body_size_ = 0;
  body_began_ = received_ns_;
  body_.clear();
  if (body_use_ == BodyUse::archive) {
    upload_ = host_.service.begin_upload();
  } else {
    body_.reserve(static_cast<std::size_t>(body_left_));
  }
  extend_body_deadline();
  return std::nullopt;
}

// They come with the body, and the body after the invitation: what comes with the head is read by
// then, and its descriptors are gone.
std::optional<Refusal> HttpConnection::expect_descriptors(const Head& head) {
  descriptors_expected_ = 0;
  descriptors_.clear();
  if (head.descriptors.empty()) {
    return std::nullopt;
  }
  const auto count = descriptor_count(head.descriptors);
  if (!count || route_.endpoint != Endpoint::run || parser_->chunked() || body_left_ == 0 ||
      head.expect.empty() || in_.size() > 0) {
    return bad_request(
        "Brood-Descriptors: 1 to 16, of POST /commands, with a Content-Length and Expect: "
        "100-continue");
  }
  descriptors_expected_ = *count;
  return std::nullopt;
}

// curl waits for this second line before it sends more than 1 MiB.
void HttpConnection::invite_body(const Head& head) {
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (head.expect.empty() || in_.size() > 0) {
    return;
  }
  // Nothing else is in the socket's buffer, so that this fits, or the client is gone.
  (void)::send(socket_.native_handle(), kContinue.data(), kContinue.size(),
               MSG_DONTWAIT | MSG_NOSIGNAL);
}

void HttpConnection::read_body() {
  parser_->chunked() ? read_chunked_body() : read_sized_body();
}

// Past what came with the head, a body of known length is read straight to its place.
void HttpConnection::read_sized_body() {
  const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(in_.size(), body_left_));
  if (here > 0) {
    body_left_ -= here;
    const bool taken = accept_body({static_cast<const char*>(in_.cdata().data()), here});
    in_.consume(here);
    if (!taken) {
      return refuse(too_large(body_use_, body_limit_));
    }
  }
  if (body_left_ == 0) {
    return serve();
  }
  extend_body_deadline();
  read_more();
}

void HttpConnection::read_chunked_body() {
  while (!parser_->is_done()) {
    error_code error;
    // Beast asks for more only where it has begun on something; having none is not an error to it.
    if (in_.size() > 0) {
      in_.consume(parser_->put(in_.cdata(), error));
    }
    const bool needs_more = error == http::error::need_more || (!error && in_.size() == 0);
    if (needs_more && !parser_->is_done() && in_.size() < in_.max_size()) {
      extend_body_deadline();
      return read_more();
    }
    if (error) {
      return refuse(error == http::error::body_limit ? too_large(body_use_, body_limit_)
                                                     : bad_request("bad chunked encoding"));
    }
  }
  serve();
}

bool HttpConnection::take(std::string_view bytes) {
  return accept_body(bytes);
}

bool HttpConnection::accept_body(std::string_view bytes) {
  if (bytes.size() > body_limit_ - body_size_) {
    return false;
  }
  if (upload_) {
    body_size_ += bytes.size();
    return upload_->write(bytes);
  }
  body_.resize(body_size_);
  body_.append(bytes);
  body_size_ += bytes.size();
  return true;
}

void HttpConnection::extend_body_deadline() {
  deadline_ = body_began_ + ns_of(host_.options.body_timeout) +
              static_cast<std::int64_t>(body_size_ >> 18) * 1'000'000'000;
}

// --- answering -----------------------------------------------------------------------------------

// Answers a request whose body has not been read: where there is one, or its end cannot be told,
// the connection closes behind the answer.
void HttpConnection::refuse(const Refusal& refusal) {
  const bool no_body = phase_ == Phase::head && parser_->is_header_done() && !parser_->chunked() &&
                       parser_->content_length().value_or(0) == 0;
  body_unread_ = !no_body;
  last_request_ = last_request_ || body_unread_;
  upload_.reset();
  if (refusal.status == 413 && route_.endpoint == Endpoint::invoke) {
    phase_ = Phase::serving;
    return invoke(BodyTaken::no);
  }
  respond(reply_of(refusal));
}

void HttpConnection::respond(Reply&& reply) {
  if (phase_ == Phase::closed) {
    return;
  }
  phase_ = Phase::replying;
  deadline_ = agent::monotonic_ns() + ns_of(host_.options.body_timeout);
  out_head_.clear();
  append_head(reply, Framing::length, last_request_ ? Persistence::close : Persistence::keep,
              out_head_);
  out_body_ = std::move(reply.body);
  if (parser_->is_header_done() && parser_->get().method() == http::verb::head) {
    out_body_.clear();
  }
  const std::array<asio::const_buffer, 2> pieces{asio::buffer(out_head_), asio::buffer(out_body_)};
  asio::async_write(socket_, pieces, [self = shared_from_this()](error_code error, std::size_t) {
    self->on_written(error);
  });
}

void HttpConnection::on_written(error_code error) {
  if (phase_ == Phase::closed) {
    return;
  }
  if (error) {
    return close();
  }
  if (last_request_ || input_ended_) {
    return body_unread_ ? linger() : close();
  }
  become_idle();
  in_.size() > 0 ? parse_head() : read_more();
}

// --- ending --------------------------------------------------------------------------------------

void HttpConnection::on_end_of_input(error_code) {
  input_ended_ = true;
  last_request_ = true;
  switch (phase_) {
    case Phase::serving:
    case Phase::streaming:
      return client_is_gone() ? close() : watch_for_hang_up();
    case Phase::replying:
    case Phase::closed:
      return;
    default:
      return close();
  }
}

// A client may shut down its sending side once it has asked, and still wait for the answer; only
// when both sides are down has it hung up.
bool HttpConnection::client_is_gone() {
  pollfd poll_fd{socket_.native_handle(), 0, 0};
  return ::poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR)) != 0;
}

void HttpConnection::watch_for_hang_up() {
  socket_.async_wait(asio::socket_base::wait_error, [self = shared_from_this()](error_code error) {
    const bool waiting = self->phase_ == Phase::serving || self->phase_ == Phase::streaming;
    if (!error && waiting && self->client_is_gone()) {
      self->close();
    }
  });
}

// Closing a Unix socket with unread bytes in it resets the client, which may then never read the
// answer that tells it to stop sending.
void HttpConnection::linger() {
  error_code ignored;
  socket_.shutdown(asio::socket_base::shutdown_send, ignored);
  phase_ = Phase::lingering;
  deadline_ = agent::monotonic_ns() + kLingerNs;
  in_.clear();
  read_more();
}

void HttpConnection::close() {
  if (phase_ == Phase::closed) {
    return;
  }
  const auto self = shared_from_this();  // `closed` drops the server's hold on this
  phase_ = Phase::closed;
  log_watch_.reset();
  waiting_.reset();
  upload_.reset();
  if (const auto invocation = std::exchange(invocation_, nullptr)) {
    invocation->cancel();
  }
  if (const auto command = std::exchange(command_, nullptr)) {
    command->cancel();
  }
  error_code ignored;
  socket_.close(ignored);
  std::exchange(host_.closed, nullptr)(*this);
}

void HttpConnection::check_deadline(std::int64_t now) {
  if (now < deadline_) {
    return;
  }
  if (phase_ == Phase::head || phase_ == Phase::body) {
    return refuse({408, "request_timeout", "the request did not come in time", {}});
  }
  close();
}

void HttpConnection::drain() {
  last_request_ = true;
  if (phase_ == Phase::idle) {
    close();
  } else if (phase_ == Phase::streaming && log_) {
    end_log();
  }
}

void HttpConnection::abort() {
  close();
}

std::shared_ptr<Connection> Connection::open(asio::io_context& loop, base::UniqueFd socket,
                                             unsigned client_uid, Host host) {
  auto connection =
      std::make_shared<HttpConnection>(loop, std::move(socket), client_uid, std::move(host));
  connection->start();
  return connection;
}

}  // namespace api
