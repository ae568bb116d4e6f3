#include "agent/maker.h"

#include <signal.h>
#include <sys/resource.h>

namespace agent {

Maker::Maker(boost::asio::io_context& loop) : loop_(loop) {
  boost::asio::post(thread_, [] {
    // Signals are the event loop's.
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    constexpr int kLowerPriority = 5;
    ::setpriority(PRIO_PROCESS, 0, kLowerPriority);  // of this thread alone, on Linux
  });
}

void Maker::finish() {
  thread_.join();
}

}  // namespace agent
