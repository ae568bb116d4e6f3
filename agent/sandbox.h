// One sandbox as the agent sees it, from the order to its zygote until nothing of it is left.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "agent/command.h"
#include "agent/network.h"
#include "agent/output_turns.h"
#include "agent/protocol.h"
#include "agent/service.h"
#include "agent/verdict.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "cgroups/cgroup.h"
#include "cgroups/limit_writer.h"
#include "rootfs/id_map.h"
#include "rootfs/mounts.h"

namespace agent {

// What a sandbox is made of before its process exists. Made, and unmade, on the maker's thread.
struct SandboxParts {
  std::uint64_t number = 0;
  std::uint32_t slot = 0;  // of its runtime's uid area
  cgroups::Cgroup cgroup;
  cgroups::LimitWriter limits;
  base::UniqueFd memory_events;  // what has been counted; not there without the controller
  base::UniqueFd pids_events;
  rootfs::CodeSlot code_slot;
  base::UniqueFd layers_slave;
  base::UniqueFd code_slave;    // theirs from here on: closed once the zygote has its copies
  base::UniqueFd lower_theirs;  // the image, as the sandbox shall see it
  base::UniqueFd conn_theirs;
  base::UniqueFd supervisor_theirs;
  base::UniqueFd log_theirs;
  base::UniqueFd conn;
  base::UniqueFd supervisor;
  base::UniqueFd log;
};

struct PartsRequest {
  std::uint64_t number = 0;
  std::uint32_t slot = 0;
  const cgroups::Cgroup* parent = nullptr;  // the runtime's
  std::uint32_t zygote_uid = 0;             // may put its children into the sandbox's cgroup
  rootfs::CodeSlots* slots = nullptr;       // used on the maker's thread only; none: nothing will
                                            // be shown in it
  bool map_ids = false;                     // the image's owners are the sandbox's
  int image_fd = -1;                        // its root
  std::uint32_t host_uid = 0;               // first of the sandbox's
  cgroups::Limits limits;                   // until it is bound
};
base::Result<SandboxParts> make_parts(const PartsRequest& request);

// Frees what is left of a sandbox whose processes are gone; answers its cgroup where that is still
// busy. Blocks (a cgroup may be busy for some milliseconds): for the maker's thread.
std::optional<cgroups::Cgroup> unmake_parts(SandboxParts parts);

class Sandbox;

// Whom a sandbox tells. All on the event loop; a sandbox may be killed from any of them.
class SandboxOwner {
 public:
  virtual ~SandboxOwner() = default;
  virtual void on_ready(Sandbox& sandbox) = 0;                // rehearsed: may be bound
  virtual void on_loaded(Sandbox& sandbox) = 0;               // the bound handler is loaded
  virtual void on_answer(Sandbox& sandbox, Frame frame) = 0;  // RESULT or COMPILED
  virtual void on_output(Sandbox& sandbox, std::string_view bytes) = 0;  // what it printed
  virtual void on_gone(
      Sandbox& sandbox) = 0;  // all its processes have ended; `evidence` is complete
};

class Sandbox : public std::enable_shared_from_this<Sandbox> {
 public:
  enum class State { starting, pool, idle, running, ending, gone };

  Sandbox(boost::asio::io_context& loop, std::string runtime, std::uint32_t host_uid,
          SandboxParts parts, std::uint64_t response_limit, OutputTurns& turns);
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // Begins to listen. The owner must outlive the sandbox or be replaced.
  void listen(SandboxOwner* owner);
  void set_owner(SandboxOwner* owner) { owner_ = owner; }
  void spawned(base::UniqueFd pidfd);
  void spawn_failed(std::string problem);
  // Descriptors for the zygote, in the order of enum brood_spawn_fd.
  std::array<int, BROOD_SPAWN_FD_COUNT> descriptors_for_zygote() const;
  void close_zygote_copies();

  // --- binding; each takes microseconds ---
  base::Status attach(
      const rootfs::HeldMount& code);  // the code is visible inside, read-only, from here on
  base::Status attach_layers(const rootfs::HeldMount& layers);
  base::Status limit(const FunctionSettings& settings);
  // Sends what `gather` holds; `payload` is what it points to and is kept until all is written.
  void send(std::shared_ptr<const void> payload);
  // The same for a RUN, with the command's standard streams. The command closes the socket.
  void send_command(std::shared_ptr<const void> payload, std::array<base::UniqueFd, 3> streams);
  Gather& gather() { return gather_; }

  // Kills every process of it. `on_gone` follows. The first evidence stands.
  void kill();
  Evidence& evidence() { return evidence_; }
  // Completes the evidence with what the kernel has counted since `mark_counters`.
  void mark_counters();
  void count_evidence();
  // Reads what has been printed and not been told yet: at most a pipe's worth.
  void drain_output();

  State state() const { return state_; }
  void set_state(State state) { state_ = state; }
  // Asks the kernel, for what the loop has not been told yet.
  // Of pid 1; borrowed.
  int pidfd() const { return init_.fd(); }
  bool has_ended() const { return init_ && init_.ended(); }
  const std::string& id() const { return id_; }
  std::uint64_t number() const { return parts_.number; }
  std::int64_t born_ns() const { return born_ns_; }
  std::uint32_t slot() const { return parts_.slot; }
  const std::string& setup_problem() const { return setup_problem_; }
  SandboxStatus status() const;
  // One more process, which will say READY on `conn` (borrowed) and wait for a RUN; its number, by
  // which it is signalled. `ended` is called once: with its end, or with nothing when the sandbox
  // has gone. Native sandboxes only.
  using ProcessEnded = std::function<void(const brood_handler_end* end)>;
  base::Result<std::uint32_t> start_process(int conn, ProcessEnded ended);
  base::Status signal_process(std::uint32_t process, int number);
  // Signals, stops or continues what runs in it. ESRCH where that has ended.
  base::Status signal_handler(int number) const;
  base::Status freeze(bool frozen);
  std::uint32_t host_uid() const { return host_uid_; }
  base::Result<cgroups::Usage> usage() const { return parts_.cgroup.usage(); }
  std::string function;                   // bound to it; empty in the pool
  std::string command;                    // or what it runs, for people
  std::string name;                       // and how that is called
  int stop_signal = 0;                    // what asks the command to end
  std::uint32_t inside_uid = kInsideUid;  // who that is, in the sandbox's numbers
  std::uint32_t inside_gid = kInsideUid;
  std::shared_ptr<const Wire> wire;  // of a sandbox with a network, once it is there
  SandboxParts release_parts() { return std::move(parts_); }

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;
  void wait_conn();
  void read_conn();
  bool handle_frame(Frame frame);
  void broken(std::string rule);
  void wait_supervisor();
  void read_supervisor();
  void handle_supervisor(std::string_view bytes, base::UniqueFd descriptor);
  void wait_listener();
  void read_listener();
  void wait_output();
  void take_output_turn();
  bool read_output(std::size_t most);
  void wait_writable();
  base::Status order(const brood_order& order, int descriptor);
  void flush();
  void wait_end();
  void end_unwatched();
  void conn_closed();
  void gone();

  SandboxOwner* owner_ = nullptr;
  std::string runtime_;
  std::string id_;
  std::uint32_t host_uid_;
  std::int64_t born_ns_;
  State state_ = State::starting;
  SandboxParts parts_;
  base::PidRef init_;
  Descriptor conn_;
  Descriptor supervisor_;
  Descriptor log_;
  OutputTurns& turns_;
  boost::asio::steady_timer rest_;  // until its next turn
  Descriptor listener_;             // seccomp's notifications
  Descriptor end_;                  // a copy of the pidfd
  boost::asio::steady_timer grace_;
  FrameReader reader_;
  Gather gather_;
  std::shared_ptr<const void> payload_;
  std::array<base::UniqueFd, 3> streams_;  // to go with the next byte that is written
  bool runs_command_ = false;
  std::map<std::uint32_t, ProcessEnded> processes_;
  std::uint32_t last_process_ = 0;
  bool frozen_ = false;
  bool writing_ = false;
  Evidence evidence_;
  struct Counters {
    std::uint64_t oom_kills = 0;
    std::uint64_t pids_refusals = 0;
  };
  Counters counters() const;
  Counters marked_;
  std::string setup_problem_;
};

}  // namespace agent
