// The agent's second thread: kernel work that takes tens of microseconds or more (cgroups, mounts,
// the registry, digests) is done here, so that the event loop never waits for it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <utility>

namespace agent {

// Jobs run one after another, in the order in which they were given; each ends with a call on the
// event loop. At a lower priority than the loop: what it makes is for later.
class Maker {
 public:
  explicit Maker(boost::asio::io_context& loop);
  ~Maker() { finish(); }
  Maker(const Maker&) = delete;
  Maker& operator=(const Maker&) = delete;

  // Runs `work` on the maker's thread and hands what it returns to `then` on the event loop.
  template <typename Work, typename Then>
  void run(Work work, Then then) {
    boost::asio::post(thread_, [this, guard = boost::asio::make_work_guard(loop_),
                                work = std::move(work), then = std::move(then)]() mutable {
      using Value = decltype(work());
      auto value = std::make_unique<Value>(work());
      boost::asio::post(loop_, [value = std::move(value), then = std::move(then)]() mutable {
        then(std::move(*value));
      });
    });
  }
  // The same for work whose end nobody waits for.
  void run(std::function<void()> work) { boost::asio::post(thread_, std::move(work)); }

  // Waits until all jobs are done; those given later are dropped.
  void finish();

 private:
  boost::asio::io_context& loop_;
  boost::asio::thread_pool thread_{1};
};

}  // namespace agent
