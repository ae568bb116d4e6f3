#include "agent/command_book.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <nlohmann/json.hpp>
#include <utility>

#include "agent/clock.h"

namespace agent {
namespace {

using State = KeptCommand::State;

Failure conflict(std::string message) {
  return {409, "conflict", std::move(message)};
}
Failure internal(const base::Error& error) {
  return {500, "internal", error.message()};
}

CommandEnd own_fault(std::string message) {
  CommandEnd end;
  end.message = std::move(message);
  return end;
}

void note(const base::Status& status, const char* doing, const std::string& id) {
  if (!status) {
    spdlog::warn("{} command {}: {}", doing, id, status.error().message());
  }
}

base::Result<base::UniqueFd> copy_of(const base::UniqueFd& fd) {
  base::UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) {
    return base::fail_errno("copy", "a command's stream");
  }
  return copy;
}

// For whoever comes too late for the standard input: writing to it fails.
base::Result<base::UniqueFd> closed_input() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return base::fail_errno("pipe2");
  }
  const base::UniqueFd nobodys(ends[0]);
  return base::UniqueFd(ends[1]);
}

}  // namespace

struct CommandBook::Entry {
  KeptCommand command;
  std::shared_ptr<CommandHandle> running;
  // The agent's copies: of a terminal the master; of one that was started detached standard input
  // (invalid where it is closed, or somebody's), output and error; else none.
  std::vector<base::UniqueFd> streams;
  std::shared_ptr<CommandLog> log;
  CommandCallbacks client;   // whoever asked, or is attached
  std::uint64_t holder = 0;  // counts those
  std::list<std::function<void(const KeptCommand&)>> waiting;
  bool cancelled = false;  // before it began
  bool removing = false;

  // Where it has begun, `on_gone` tells the rest.
  void kill() { running != nullptr ? running->cancel() : void(cancelled = true); }
};

// A client's hold on a command: of the one that asked for it, or that is attached.
class CommandBook::Holder : public CommandHandle {
 public:
  enum class Leaving { kills, detaches };
  Holder(CommandBook& book, EntryPtr entry, Leaving leaving)
      : book_(book), entry_(std::move(entry)), number_(++entry_->holder), leaving_(leaving) {}
  void cancel() override {
    if (entry_->holder != number_ || entry_->command.state == State::ended) {
      return;  // it has left
    }
    leaving_ == Leaving::kills ? entry_->kill() : book_.leave(entry_);
  }

 private:
  CommandBook& book_;
  EntryPtr entry_;
  std::uint64_t number_;
  Leaving leaving_;
};

// --- opening -------------------------------------------------------------------------------------

CommandBook::CommandBook(BookContext context, LogStore logs)
    : context_(context), logs_(std::move(logs)) {}
CommandBook::~CommandBook() = default;

base::Result<std::unique_ptr<CommandBook>> CommandBook::open(BookContext context,
                                                             const std::string& logs) {
  BROOD_TRY(LogStore store, LogStore::open(logs));
  std::unique_ptr<CommandBook> book(new CommandBook(context, std::move(store)));
  BROOD_CHECK(book->load());
  return book;
}

base::Status CommandBook::load() {
  BROOD_TRY(const std::vector<std::string> records, context_.registry.load_commands());
  for (const std::string& text : records) {
    auto command = kept_command_of(text);
    if (!command) {
      spdlog::error("{}", command.error().message());
      continue;
    }
    const auto entry = std::make_shared<Entry>();
    entry->command = std::move(*command);
    KeptCommand& known = entry->command;
    const bool cut_off = known.state != State::ended;
    known.attached = false;
    if (cut_off && !known.request.keep) {
      BROOD_CHECK(logs_.remove(known.id));
      BROOD_CHECK(context_.registry.remove_command(known.id));
      continue;
    }
    if (cut_off) {
      known.state = State::ended;
      known.ended_ms = unix_ms();
      known.end = own_fault("the agent ended before the command had");
      BROOD_CHECK(context_.registry.put_command(known.id, text_of(document_of(known))));
    }
    entries_.emplace(known.id, entry);
    if (!known.request.name.empty()) {
      names_.emplace(known.request.name, entry);
    }
  }
  return {};
}

// --- running -------------------------------------------------------------------------------------

tl::expected<std::shared_ptr<CommandHandle>, Failure> CommandBook::run(CommandRequest request,
                                                                       CommandCallbacks callbacks,
                                                                       Start start) {
  if (const auto other = names_.find(request.name); other != names_.end()) {
    return tl::unexpected(conflict("the name '" + request.name + "' is that of command " +
                                   other->second->command.id +
                                   ": remove that one, or take another name"));
  }
  if (entries_.size() >= kMost) {
    return tl::unexpected(
        conflict(std::to_string(kMost) + " commands are kept: remove some that have ended"));
  }
  const auto entry = std::make_shared<Entry>();
  KeptCommand& command = entry->command;
  do {
    command.id = new_command_id();
  } while (entries_.contains(command.id));
  request.id = command.id;
  command.request = request;
  command.request.descriptors = nullptr;
  command.request.published = nullptr;
  command.created_ms = unix_ms();
  entry->client = std::move(callbacks);
  entries_.emplace(command.id, entry);
  if (!request.name.empty()) {
    names_.emplace(request.name, entry);
  }
  auto holder = std::make_shared<Holder>(*this, entry, Holder::Leaving::kills);
  put(entry, [this, entry, request = std::move(request),
              start = std::move(start)](const base::Status& written) mutable {
    if (!written) {
      return close(entry, own_fault(written.error().message()));
    }
    if (entry->cancelled) {
      CommandEnd end = own_fault("it was given up before it had begun");
      end.ending = CommandEnding::cancelled;
      return close(entry, end);
    }
    start_entered(entry, std::move(request), start);
  });
  return holder;
}

void CommandBook::start_entered(const EntryPtr& entry, CommandRequest request, const Start& start) {
  auto running =
      start(std::move(request),
            {.started = [this, entry](CommandStarted begun) { started(entry, std::move(begun)); },
             .done = [this, entry](const CommandEnd& end) { ended(entry, end); }});
  if (!running) {
    return close(entry, own_fault(running.error().message));
  }
  entry->running = std::move(*running);
}

void CommandBook::started(const EntryPtr& entry, CommandStarted&& started) {
  KeptCommand& command = entry->command;
  command.state = State::running;
  command.started_ms = unix_ms();
  command.sandbox = started.sandbox;
  command.attached = !command.request.detached;
  started.command = command.id;
  if (const auto taken = take_streams(*entry, started.streams); !taken) {
    note(taken, "hearing", command.id);
    entry->kill();
  }
  put(entry,
      [entry](const base::Status& written) { note(written, "recording", entry->command.id); });
  const auto tell = entry->client.started;
  if (command.request.detached) {
    entry->client = {};
    ++entry->holder;  // it goes on without whoever asked
  }
  tell(std::move(started));
}

base::Status CommandBook::take_streams(Entry& entry, std::vector<base::UniqueFd>& streams) {
  const CommandRequest& request = entry.command.request;
  if (!request.detached) {
    if (request.terminal) {
      BROOD_TRY(base::UniqueFd master, copy_of(streams[0]));
      entry.streams.push_back(std::move(master));
    }
    return {};
  }
  entry.streams = std::exchange(streams, {});
  if (!request.terminal && !request.input) {
    entry.streams[0].reset();
  }
  return listen(entry);
}

base::Status CommandBook::listen(Entry& entry) {
  if (entry.log == nullptr) {
    BROOD_TRY(auto log, logs_.writer(entry.command.id));
    entry.log = std::make_shared<CommandLog>(context_.loop, context_.turns, std::move(log));
  }
  if (entry.command.request.terminal) {
    return entry.log->read(entry.streams[0], "stdout");
  }
  BROOD_CHECK(entry.log->read(entry.streams[1], "stdout"));
  return entry.log->read(entry.streams[2], "stderr");
}

void CommandBook::ended(const EntryPtr& entry, const CommandEnd& end) {
  entry->running.reset();
  if (entry->log == nullptr) {
    return close(entry, end);
  }
  if (stopping_) {
    entry->log->finish();
  }
  entry->log->when_drained([this, entry, end] { close(entry, end); });
}

void CommandBook::close(const EntryPtr& entry, const CommandEnd& end) {
  KeptCommand& command = entry->command;
  command.state = State::ended;
  command.ended_ms = unix_ms();
  command.attached = false;
  command.end = end;
  entry->streams.clear();
  const auto then = [this, entry](const base::Status& written) {
    note(written, "recording the end of", entry->command.id);
    tell_end(*entry);
  };
  // One that has never run is known to nobody.
  command.request.keep&& command.started_ms != 0 ? put(entry, then) : forget(entry, then);
}

void CommandBook::tell_end(Entry& entry) {
  const auto client = std::exchange(entry.client, {});
  const auto waiting = std::exchange(entry.waiting, {});
  if (client.done) {
    client.done(*entry.command.end);
  }
  for (const auto& told : waiting) {
    told(entry.command);
  }
  if (const auto log = std::exchange(entry.log, nullptr)) {
    log->tell_followers();
  }
}

void CommandBook::write(std::function<base::Status()> work, Written then) {
  ++writing_;
  context_.disk.run(std::move(work), [this, then = std::move(then)](const base::Status& written) {
    then(written);
    if (--writing_ == 0 && settled_) {
      boost::asio::post(context_.loop, std::exchange(settled_, nullptr));
    }
  });
}

void CommandBook::put(const EntryPtr& entry, Written then) {
  write([&registry = context_.registry, id = entry->command.id,
         text = text_of(document_of(entry->command))] { return registry.put_command(id, text); },
        std::move(then));
}

// The log first: a record without a log is whole, and a log without a record would be nobody's.
void CommandBook::forget(const EntryPtr& entry, Written then) {
  const std::string id = entry->command.id;
  note(logs_.remove(id), "removing the log of", id);
  write([&registry = context_.registry, id] { return registry.remove_command(id); },
        [this, entry, then = std::move(then)](const base::Status& removed) {
          entries_.erase(entry->command.id);
          names_.erase(entry->command.request.name);
          then(removed);
        });
}

void CommandBook::when_settled(std::function<void()> done) {
  writing_ == 0 ? boost::asio::post(context_.loop, std::move(done))
                : void(settled_ = std::move(done));
}

void CommandBook::ask_to_end(const std::function<void(const std::string& sandbox)>& ask) const {
  for (const auto& [id, entry] : entries_) {
    if (entry->command.state == State::running && !entry->client.done) {
      ask(entry->command.sandbox);
    }
  }
}

// --- what is asked -------------------------------------------------------------------------------

tl::expected<CommandBook::EntryPtr, Failure> CommandBook::entry_of(std::string_view which) const {
  if (const auto named = names_.find(which); named != names_.end()) {
    return named->second;
  }
  const auto first = entries_.lower_bound(which);
  const auto begins = [&](const auto& place) {
    return place != entries_.end() && place->first.compare(0, which.size(), which) == 0;
  };
  if (which.empty() || !begins(first)) {
    return tl::unexpected(
        Failure{404, "not_found", "there is no command '" + std::string(which) + "'"});
  }
  if (first->first != which && begins(std::next(first))) {
    return tl::unexpected(
        conflict("more than one command's id begins with '" + std::string(which) + "'"));
  }
  return first->second;
}

std::string CommandBook::sandbox_of(std::string_view which) const {
  const auto entry = entry_of(which);
  return entry && (*entry)->command.state == State::running ? (*entry)->command.sandbox
                                                            : std::string();
}

std::vector<KeptCommand> CommandBook::list() const {
  std::vector<KeptCommand> all;
  for (const auto& [id, entry] : entries_) {
    all.push_back(entry->command);
  }
  std::sort(all.begin(), all.end(), [](const KeptCommand& one, const KeptCommand& other) {
    return std::tie(one.created_ms, one.id) < std::tie(other.created_ms, other.id);
  });
  return all;
}

tl::expected<KeptCommand, Failure> CommandBook::find(std::string_view which) const {
  const auto entry = entry_of(which);
  if (!entry) {
    return tl::unexpected(entry.error());
  }
  return (*entry)->command;
}

tl::expected<std::shared_ptr<void>, Failure> CommandBook::wait(
    std::string_view which, std::function<void(const KeptCommand&)> done) {
  const auto found = entry_of(which);
  if (!found) {
    return tl::unexpected(found.error());
  }
  const EntryPtr& entry = *found;
  const auto token = std::make_shared<std::function<void(const KeptCommand&)>>(std::move(done));
  const auto tell = [weak = std::weak_ptr(token)](const KeptCommand& command) {
    if (const auto wanted = weak.lock()) {
      (*wanted)(command);
    }
  };
  if (entry->command.state == State::ended) {
    boost::asio::post(context_.loop, [entry, tell] { tell(entry->command); });
  } else {
    entry->waiting.emplace_back(tell);
  }
  return token;
}

void CommandBook::remove(std::string_view which, Running running, Completion<KeptCommand> done) {
  const auto refuse = [&](Failure failure) {
    boost::asio::post(context_.loop, [done = std::move(done), failure = std::move(failure)] {
      done(tl::unexpected(failure));
    });
  };
  const auto found = entry_of(which);
  if (!found) {
    return refuse(found.error());
  }
  const EntryPtr& entry = *found;
  if (entry->removing) {
    return refuse(conflict("command '" + std::string(which) + "' is being removed"));
  }
  const auto forget_it = [this, entry, done] {
    forget(entry, [entry, done](const base::Status& removed) {
      entry->removing = static_cast<bool>(removed);
      removed ? done(entry->command) : done(tl::unexpected(internal(removed.error())));
    });
  };
  if (entry->command.state == State::ended) {
    entry->removing = true;
    return forget_it();
  }
  if (running == Running::refuse) {
    return refuse(conflict("command '" + std::string(which) +
                           "' runs: stop it first, or have it killed with force"));
  }
  entry->removing = true;
  entry->waiting.emplace_back([entry, forget_it, done](const KeptCommand& command) {
    command.request.keep ? forget_it() : done(command);
  });
  entry->kill();
}

tl::expected<std::shared_ptr<CommandHandle>, Failure> CommandBook::attach(
    std::string_view which, CommandCallbacks callbacks) {
  const auto found = entry_of(which);
  if (!found) {
    return tl::unexpected(found.error());
  }
  const EntryPtr& entry = *found;
  const std::string named = "command '" + std::string(which) + "'";
  if (entry->command.state != State::running || entry->running == nullptr) {
    return tl::unexpected(conflict(named + " does not run"));
  }
  if (entry->command.attached || entry->streams.empty()) {
    return tl::unexpected(conflict(named + " has a client that is attached"));
  }
  auto streams = lend(*entry);
  if (!streams) {
    return tl::unexpected(internal(streams.error()));
  }
  entry->command.attached = true;
  entry->client = std::move(callbacks);
  auto holder = std::make_shared<Holder>(*this, entry, Holder::Leaving::detaches);
  boost::asio::post(context_.loop,
                    [entry, number = entry->holder,
                     started = std::make_shared<CommandStarted>(CommandStarted{
                         entry->command.sandbox, entry->command.id, std::move(*streams), 0})] {
                      if (entry->holder == number && entry->client.started) {
                        entry->client.started(std::move(*started));
                      }
                    });
  return holder;
}

base::Result<std::vector<base::UniqueFd>> CommandBook::lend(Entry& entry) {
  std::vector<base::UniqueFd> lent;
  for (base::UniqueFd& stream : entry.streams) {
    // Its end is the reader's to see: standard input is not kept open beside whoever writes to it.
    const bool input = !entry.command.request.terminal && lent.empty();
    if (input && stream) {
      lent.push_back(std::move(stream));
      continue;
    }
    BROOD_TRY(base::UniqueFd one, input ? closed_input() : copy_of(stream));
    lent.push_back(std::move(one));
  }
  entry.log->leave();
  return lent;
}

void CommandBook::leave(const EntryPtr& entry) {
  ++entry->holder;
  entry->client = {};
  entry->command.attached = false;
  if (const auto heard = listen(*entry); !heard) {
    note(heard, "hearing", entry->command.id);
    entry->kill();
  }
}

tl::expected<void, Failure> CommandBook::detach(std::string_view which) {
  const auto found = entry_of(which);
  if (!found) {
    return tl::unexpected(found.error());
  }
  const EntryPtr& entry = *found;
  if (entry->command.state != State::running || entry->running == nullptr ||
      !entry->command.attached || entry->streams.empty()) {
    return tl::unexpected(
        conflict("command '" + std::string(which) + "' has no client that could leave it"));
  }
  leave(entry);
  return {};
}

tl::expected<std::vector<LogLine>, Failure> CommandBook::logs(std::string_view which,
                                                              std::size_t tail,
                                                              std::uint64_t after_sequence) const {
  const auto entry = entry_of(which);
  if (!entry) {
    return tl::unexpected(entry.error());
  }
  auto lines = logs_.read((*entry)->command.id, tail, after_sequence);
  if (!lines) {
    return tl::unexpected(internal(lines.error()));
  }
  return std::move(*lines);
}

std::shared_ptr<void> CommandBook::follow_logs(std::string_view which, std::function<void()> more) {
  const auto entry = entry_of(which);
  return entry && (*entry)->log != nullptr ? (*entry)->log->follow(std::move(more)) : nullptr;
}

}  // namespace agent
