// What brood's latency is held against, measured in the same run: the least that any answer over a
// socket costs, and a cold start by plain fork and import.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"

namespace bench {

// A process that sends back what it gets over a Unix stream socket. The caller is single-threaded.
class UnixEcho {
 public:
  static constexpr std::size_t kSize = 128;  // bytes each way
  // How many processes a message meets: the last one sends it back, those before it pass it on. Two
  // is the way of an invocation, whose agent stands between its client and its sandbox.
  enum class Hops { one = 1, two = 2 };

  static base::Result<UnixEcho> start(Hops hops);
  // Nanoseconds of one round trip.
  base::Result<std::int64_t> round_trip();

 private:
  UnixEcho(base::OwnedPid process, base::UniqueFd socket)
      : process_(std::move(process)), socket_(std::move(socket)) {}

  base::OwnedPid process_;
  base::UniqueFd socket_;
};

struct ForkImportSetup {
  std::string root;         // an image's root file system
  std::string interpreter;  // a path in it
  std::string handler;      // its source
};

// bench/fork_import.py, run by an image's own interpreter with the image as its root. Everything
// that it mounts is in a mount namespace of its own, which goes with it. Without root it needs user
// namespaces.
class ForkImport {
 public:
  static base::Result<ForkImport> start(const ForkImportSetup& setup);
  // Nanoseconds from before the fork to the first byte of the answer, which has to be `expected`.
  base::Result<std::int64_t> call(std::string_view event, std::string_view expected);
  // Forks one process after the other for `seconds`, `at_once` of them alive at most; each makes
  // itself namespaces of every kind, imports, calls and ends. How many a second. Needs root.
  base::Result<double> churn(unsigned seconds, unsigned at_once);

 private:
  ForkImport(base::OwnedPid process, base::UniqueFd socket)
      : process_(std::move(process)), socket_(std::move(socket)) {}
  base::Result<std::string> read_line();

  base::OwnedPid process_;
  base::UniqueFd socket_;
};

}  // namespace bench
