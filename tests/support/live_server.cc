#include "tests/support/live_server.h"

#include <stdexcept>

namespace tests {

LiveServer::LiveServer(api::ServerOptions options)
    : socket_path_(scratch_.path() + "/brood.sock"),
      work_(loop_.get_executor()),
      service_(std::make_unique<FakeService>(loop_)) {
  options.socket_path = socket_path_;
  server_ = std::make_unique<api::Server>(loop_, *service_, std::move(options));
  if (auto started = server_->start(); !started) {
    throw std::runtime_error(started.error().message());
  }
  thread_ = std::thread([this] { loop_.run(); });
}

LiveServer::~LiveServer() {
  on_loop([](FakeService&, api::Server& server) {
    server.stop();
    return 0;
  });
  work_.reset();
  loop_.stop();
  thread_.join();
}

}  // namespace tests
