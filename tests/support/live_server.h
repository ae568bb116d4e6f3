// An api::Server over a FakeService, on a loop in a thread of its own, with its socket in a scratch
// directory.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>

#include "api/server.h"
#include "tests/support/fake_service.h"
#include "tests/support/scratch.h"

namespace tests {

class LiveServer {
 public:
  // `options.socket_path` is replaced.
  explicit LiveServer(api::ServerOptions options = {});
  ~LiveServer();

  const std::string& socket_path() const { return socket_path_; }

  // Runs on the loop's thread, and waits for the result: the fake and the server are only touched
  // there.
  template <typename Call>
  auto on_loop(Call call) {
    using Value = std::invoke_result_t<Call, FakeService&, api::Server&>;
    std::packaged_task<Value()> task([&] { return call(*service_, *server_); });
    auto value = task.get_future();
    boost::asio::post(loop_, [&task] { task(); });
    return value.get();
  }
  // Waits until `condition` holds on the loop; false after five seconds.
  template <typename Condition>
  bool eventually(Condition condition) {
    for (int i = 0; i < 1000; ++i) {
      if (on_loop(condition)) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

 private:
  ScratchDirectory scratch_;
  std::string socket_path_;
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unique_ptr<FakeService> service_;
  std::unique_ptr<api::Server> server_;
  std::thread thread_;
};

}  // namespace tests
