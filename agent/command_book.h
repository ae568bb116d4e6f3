// The commands that are kept: their records, which outlive the agent, their logs, and who has their
// streams. All on the event loop.
//
// A record is on disk before its command begins, and its end before anybody is told of it. A
// command ends with its agent; the next one finds those that had not ended and says so in their
// records.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/command_log.h"
#include "agent/kept_command.h"
#include "agent/log_store.h"
#include "agent/maker.h"
#include "agent/output_turns.h"
#include "agent/registry.h"
#include "agent/service.h"

namespace agent {

// Of the agent's; all of it outlives the book.
struct BookContext {
  boost::asio::io_context& loop;
  Maker& disk;
  Registry& registry;  // used on the disk's thread, once `open` has returned
  OutputTurns& turns;
};

class CommandBook : public KeptCommands {
 public:
  static constexpr std::size_t kMost = 10'000;  // commands at once, those that have ended included

  // Reads the registry, and takes from it what an earlier agent has left half done. `logs` is the
  // directory of their logs.
  static base::Result<std::unique_ptr<CommandBook>> open(BookContext context,
                                                         const std::string& logs);
  ~CommandBook() override;

  // Enters the command, then has `start` start it. Callbacks as the Service's `run`. 409 where the
  // name is another's.
  using Start = std::function<tl::expected<std::shared_ptr<CommandHandle>, Failure>(
      CommandRequest, CommandCallbacks)>;
  tl::expected<std::shared_ptr<CommandHandle>, Failure> run(CommandRequest request,
                                                            CommandCallbacks callbacks,
                                                            Start start);
  // The sandbox in which `which` runs; empty when it is no kept command, or does not run.
  std::string sandbox_of(std::string_view which) const;
  // The agent is about to stop: what runs detached is asked to end, by its own signal.
  void ask_to_end(const std::function<void(const std::string& sandbox)>& ask) const;
  // The agent stops: what is left of output is not waited for.
  void stop() { stopping_ = true; }
  // Calls `done` once all that was to be written is, and was told.
  void when_settled(std::function<void()> done);

  std::vector<KeptCommand> list() const override;
  tl::expected<KeptCommand, Failure> find(std::string_view which) const override;
  tl::expected<std::shared_ptr<void>, Failure> wait(
      std::string_view which, std::function<void(const KeptCommand&)> done) override;
  void remove(std::string_view which, Running running, Completion<KeptCommand> done) override;
  tl::expected<std::shared_ptr<CommandHandle>, Failure> attach(std::string_view which,
                                                               CommandCallbacks callbacks) override;
  tl::expected<void, Failure> detach(std::string_view which) override;
  tl::expected<std::vector<LogLine>, Failure> logs(std::string_view which, std::size_t tail,
                                                   std::uint64_t after_sequence) const override;
  std::shared_ptr<void> follow_logs(std::string_view which, std::function<void()> more) override;

 private:
  struct Entry;
  class Holder;
  using EntryPtr = std::shared_ptr<Entry>;

  CommandBook(BookContext context, LogStore logs);
  base::Status load();
  tl::expected<EntryPtr, Failure> entry_of(std::string_view which) const;
  void start_entered(const EntryPtr& entry, CommandRequest request, const Start& start);
  void started(const EntryPtr& entry, CommandStarted&& started);
  base::Status take_streams(Entry& entry, std::vector<base::UniqueFd>& streams);
  base::Status listen(Entry& entry);
  base::Result<std::vector<base::UniqueFd>> lend(Entry& entry);
  void leave(const EntryPtr& entry);
  void ended(const EntryPtr& entry, const CommandEnd& end);
  void close(const EntryPtr& entry, const CommandEnd& end);
  void tell_end(Entry& entry);
  using Written = std::function<void(const base::Status&)>;
  void write(std::function<base::Status()> work, Written then);
  void put(const EntryPtr& entry, Written then);
  void forget(const EntryPtr& entry, Written then);

  BookContext context_;
  LogStore logs_;
  std::map<std::string, EntryPtr, std::less<>> entries_;  // by id
  std::map<std::string, EntryPtr, std::less<>> names_;
  bool stopping_ = false;
  std::size_t writing_ = 0;
  std::function<void()> settled_;
};

}  // namespace agent
