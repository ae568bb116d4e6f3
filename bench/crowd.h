// Many clients of one function at once, in one thread: what the agent does under load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "bench/agent_client.h"
#include "bench/events.h"
#include "bench/http.h"
#include "bench/samples.h"

namespace bench {

struct CrowdRun {
  Samples invocations;       // each from its own request to its own answer
  std::int64_t span_ns = 0;  // from the first request to the last answer
  std::size_t cold = 0;      // of the invocations
};

class Crowd {
 public:
  // One connection each. `function` runs bench/handler.py.
  static base::Result<Crowd> connect(const std::string& socket_path, const std::string& function,
                                     std::size_t clients, std::size_t payload_bytes);

  // Every client asks once, all at the same moment, and gets its answer.
  base::Result<CrowdRun> burst();
  // Every client asks again as soon as it has its answer, for `seconds`.
  base::Result<CrowdRun> keep_asking(std::uint32_t seconds);

 private:
  Crowd(std::string function, std::size_t payload_bytes)
      : target_("/functions/" + function + "/invocations"), events_(payload_bytes) {}
  base::Status ask(std::size_t client);
  base::Status hear(std::size_t client, CrowdRun& run);

  struct Client {
    Connection connection;
    std::size_t asked = 0;  // the number of its event
  };
  std::string target_;
  Events events_;
  std::vector<Client> clients_;
  std::size_t next_number_ = Events::kFirst;
};

}  // namespace bench
