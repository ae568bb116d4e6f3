// A connection as it is: reading in connection.cc, serving in connection_serving.cc.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service.h"
#include "api/connection.h"
#include "api/handlers.h"
#include "api/http_head.h"
#include "api/reply.h"
#include "api/router.h"
#include "base/fd.h"

namespace api {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::size_t kHeadLimit = 16 << 10;
constexpr std::size_t kInputLimit = 2 * kHeadLimit;  // a head, and what came behind it
constexpr std::int64_t kNever = INT64_MAX;

inline std::int64_t ns_of(std::chrono::milliseconds span) {
  return span.count() * 1'000'000;
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
  void serve_publish_layer();
  void serve_remove_layer();
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

}  // namespace api
