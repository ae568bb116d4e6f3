#include "api/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "agent/clock.h"
#include "api/handlers.h"
#include "api/json.h"
#include "api/reply.h"
#include "api/router.h"
#include "base/descriptors.h"

namespace api {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::uint32_t kHeadLimit = 16 << 10;
constexpr std::size_t kInputLimit = 2 * std::size_t{kHeadLimit};  // a head, and what came behind it
constexpr std::size_t kReadSize = 16 << 10;
constexpr std::size_t kBodyStep = 256 << 10;  // how much of a body is asked for at once
constexpr std::int64_t kLingerNs = 2'000'000'000;
constexpr std::int64_t kNever = INT64_MAX;

std::int64_t ns_of(std::chrono::milliseconds span) {
  return span.count() * 1'000'000;
}

// Where a chunked body's pieces go.
class BodyTarget {
 public:
  virtual ~BodyTarget() = default;
  // False when the body is larger than it may be.
  virtual bool take(std::string_view bytes) = 0;
};

// A Beast body that keeps nothing.
struct TargetBody {
  using value_type = BodyTarget*;

  class reader {
   public:
    template <bool isRequest, class Fields>
    reader(http::header<isRequest, Fields>&, value_type& target) : target_(target) {}
    void init(const boost::optional<std::uint64_t>&, error_code& ec) { ec = {}; }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, error_code& ec) {
      std::size_t size = 0;
      for (const asio::const_buffer buffer : boost::beast::buffers_range(buffers)) {
        if (!target_->take({static_cast<const char*>(buffer.data()), buffer.size()})) {
          ec = http::error::body_limit;
          return size;
        }
        size += buffer.size();
      }
      ec = {};
      return size;
    }
    void finish(error_code& ec) { ec = {}; }

   private:
    BodyTarget*& target_;
  };
};

using Parser = http::request_parser<TargetBody>;

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

// What of a head is needed, found in one pass. The views live as long as the parser.
struct Head {
  std::string_view content_type;
  std::string_view file_name;
  std::string_view api_version;
  std::string_view transfer_encoding;
  std::string_view expect;
  std::string_view descriptors;
  int hosts = 0;
};

void take_unknown_field(std::string_view name, std::string_view value, Head& head) {
  if (boost::beast::iequals(name, "Brood-File-Name")) {
    head.file_name = value;
  } else if (boost::beast::iequals(name, "Brood-Api-Version")) {
    head.api_version = value;
  } else if (boost::beast::iequals(name, "Brood-Descriptors")) {
    head.descriptors = value;
  }
}

Head read_head(const Parser& parser) {
  Head head;
  for (const auto& field : parser.get()) {
    const std::string_view value = view(field.value());
    switch (field.name()) {
      case http::field::content_type:
        head.content_type = value;
        break;
      case http::field::transfer_encoding:
        head.transfer_encoding = value;
        break;
      case http::field::expect:
        head.expect = value;
        break;
      case http::field::host:
        ++head.hosts;
        break;
      case http::field::unknown:
        take_unknown_field(view(field.name_string()), value, head);
        break;
      default:
        break;
    }
  }
  return head;
}

Refusal bad_request(std::string message) {
  return {400, "bad_request", std::move(message), {}};
}

// Beyond what Beast checks: anything that two readers of one message could frame differently.
std::optional<Refusal> check_head(const Parser& parser, const Head& head) {
  const bool http11 = parser.get().version() == 11;
  if (!head.transfer_encoding.empty() &&
      !(http11 && parser.chunked() && boost::beast::iequals(head.transfer_encoding, "chunked"))) {
    return Refusal{501, "not_implemented", "the only transfer encoding is chunked", {}};
  }
  if (head.hosts > 1 || (http11 && head.hosts == 0)) {
    return bad_request("a request has one Host header");
  }
  if (!head.expect.empty() && !boost::beast::iequals(head.expect, "100-continue")) {
    return Refusal{417, "expectation_failed", "the only expectation is 100-continue", {}};
  }
  if (!head.api_version.empty() && head.api_version != kApiVersion) {
    return Refusal{400,
                   "unsupported_version",
                   "this agent speaks version " + std::string(kApiVersion) + " of the API",
                   {}};
  }
  return std::nullopt;
}

Refusal refusal_of(error_code error) {
  if (error == http::error::header_limit) {
    return {431, "headers_too_large", "a request's head has at most 16 KiB", {}};
  }
  if (error == http::error::bad_version) {
    return {505, "http_version", "the agent speaks HTTP/1.1", {}};
  }
  return bad_request("the request is not HTTP: " + error.message());
}

Refusal too_large(BodyUse use, std::uint64_t limit) {
  // An invocation's payload has an ending of that name; the others share the word.
  const char* what = use == BodyUse::payload   ? "the payload"
                     : use == BodyUse::archive ? "the archive"
                                               : "the document";
  return {413,
          "payload_too_large",
          std::string(what) + " is over the limit of " + std::to_string(limit) + " bytes",
          {}};
}

// How many descriptors are to come with the body; nothing where that cannot be.
std::optional<std::size_t> descriptor_count(std::string_view text) {
  std::size_t count = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || rest != text.data() + text.size() || count == 0 ||
      count > agent::kMostBinds) {
    return std::nullopt;
  }
  return count;
}

class HttpConnection final : public Connection,
                             public BodyTarget,
                             public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(asio::io_context& loop, base::UniqueFd socket, unsigned client_uid, Host host)
      : host_(std::move(host)),
        client_uid_(client_uid),
        socket_(loop, asio::local::stream_protocol(), socket.release()) {}

  void start();
  void check_deadline(std::int64_t now) override;
  void drain() override;
  void abort() override;
  bool idle() const override { return phase_ == Phase::idle; }
  std::int64_t idle_since() const override { return idle_since_; }
  bool take(std::string_view bytes) override;

 private:
  enum class Phase {
    idle,       // nothing of a request has come
    head,       // some of its head has
    body,       // its body is being read
    serving,    // the service has it
    replying,   // its answer is being written
    streaming,  // a log is being followed
    lingering,  // the answer is out; what the client still sends is thrown away
    closed,
  };
  enum class ReadInto { input, body, scratch };

  void become_idle();
  void read_more();
  void read_with_descriptors(asio::mutable_buffer target);
  std::optional<Refusal> expect_descriptors(const Head& head);
  asio::mutable_buffer read_target();
  void on_read(error_code error, std::size_t size);
  void advance();

  void parse_head();
  void on_head();
  std::optional<Refusal> open_body(const Head& head);
  void invite_body(const Head& head);
  void read_body();
  void read_sized_body();
  void read_chunked_body();
  bool accept_body(std::string_view bytes);
  void extend_body_deadline();

  void serve();
  void serve_upload();
  void serve_deploy();
  void serve_remove();
  void serve_invoke();
  enum class BodyTaken { yes, no };
  void invoke(BodyTaken body_taken);
  void serve_logs();
  void serve_command();
  void serve_attach();
  void serve_wait();
  void serve_remove_command();
  agent::CommandCallbacks command_callbacks();
  void hold_command(tl::expected<std::shared_ptr<agent::CommandHandle>, agent::Failure>&& command);
  void command_started(agent::CommandStarted&& started);
  void command_ended(const agent::CommandEnd& end);

  void refuse(const Refusal& refusal);
  void respond(Reply&& reply);
  void on_written(error_code error);

  void stream_log(Reply&& reply);
  void pump_log();
  void write_log(std::string bytes);
  void end_log();

  void on_end_of_input(error_code error);
  void watch_for_hang_up();
  bool client_is_gone();
  void linger();
  void close();

  Host host_;
  const unsigned client_uid_;
  asio::local::stream_protocol::socket socket_;

  Phase phase_ = Phase::idle;
  std::int64_t deadline_ = kNever;
  std::int64_t idle_since_ = 0;
  bool reading_ = false;
  ReadInto read_into_ = ReadInto::input;
  bool input_ended_ = false;  // the client has shut down its side
  bool last_request_ = false;
  bool body_unread_ = false;

  boost::beast::flat_buffer in_{kInputLimit};
  std::optional<Parser> parser_;
  std::size_t head_size_ = 0;
  Route route_;
  std::int64_t received_ns_ = 0;
  std::string content_type_;

  BodyUse body_use_ = BodyUse::none;
  std::uint64_t body_limit_ = 0;
  std::uint64_t body_left_ = 0;  // of a body whose length was announced
  std::uint64_t body_size_ = 0;
  std::int64_t body_began_ = 0;
  std::string body_;
  std::string scratch_;                   // where an archive's pieces are read to
  std::size_t descriptors_expected_ = 0;  // with the body
  std::vector<base::UniqueFd> descriptors_;
  std::unique_ptr<agent::Upload> upload_;

  std::shared_ptr<agent::InvocationHandle> invocation_;
  std::shared_ptr<agent::CommandHandle> command_;
  bool command_left_ = false;  // it is started detached: the answer is its record
  std::shared_ptr<void> waiting_;
  std::string out_head_;
  std::string out_body_;

  std::optional<LogReader> log_;
  std::shared_ptr<void> log_watch_;
  bool log_writing_ = false;
  bool log_grew_ = false;
  bool log_ends_ = false;
  bool log_chunked_ = true;
};

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

// --- serving -------------------------------------------------------------------------------------

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

}  // namespace

std::shared_ptr<Connection> Connection::open(asio::io_context& loop, base::UniqueFd socket,
                                             unsigned client_uid, Host host) {
  auto connection =
      std::make_shared<HttpConnection>(loop, std::move(socket), client_uid, std::move(host));
  connection->start();
  return connection;
}

}  // namespace api
