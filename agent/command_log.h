// What a command prints while no client is attached to it: read from its streams on the event loop,
// in turns with all other output, and put into its log.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "agent/log_store.h"
#include "agent/output_turns.h"
#include "base/fd.h"

namespace agent {

class CommandLog : public std::enable_shared_from_this<CommandLog> {
 public:
  CommandLog(boost::asio::io_context& loop, OutputTurns& turns, std::shared_ptr<FunctionLog> log);

  // Reads a stream to its end from here on; `origin`: stdout or stderr. Takes a copy of it. A
  // client that shares a terminal's master with the agent may make that block again: it is asked
  // before each read.
  base::Status read(const base::UniqueFd& stream, std::string origin);
  // Reads no more, without having come to an end.
  void leave();

  // Calls `done` when all that is read has come to its end, which may be now: from inside.
  void when_drained(std::function<void()> done);
  // Reads what is there, a pipe's worth at most, and no more.
  void finish();

  // Calls `more` when the log has grown, until the token is dropped.
  std::shared_ptr<void> follow(std::function<void()> more);
  void tell_followers();

 private:
  struct Stream {
    boost::asio::posix::stream_descriptor descriptor;
    boost::asio::steady_timer rest;
    LogSource lines;
    std::string origin;
  };
  using Place = std::shared_ptr<Stream>;
  void wait(const Place& stream);
  void take_turn(const Place& stream);
  bool read_piece(Stream& stream, std::size_t most);
  void close(const Place& stream);
  void flush();

  boost::asio::io_context& loop_;
  OutputTurns& turns_;
  std::shared_ptr<FunctionLog> log_;
  std::list<Place> streams_;
  std::list<std::function<void()>> followers_;
  std::function<void()> drained_;
};

}  // namespace agent
