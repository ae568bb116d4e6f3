#include "agent/kept_command.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace {

using agent::KeptCommand;

KeptCommand whole() {
  KeptCommand command;
  command.id = "0123456789ab";
  command.request.name = "web";
  command.request.image = "alpine";
  command.request.arguments = {"sh", "-c", "echo \"x\""};
  command.request.environment = {{"A", "1"}};
  command.request.user = "7:8";
  command.request.directory = "/w";
  command.request.memory_bytes = 64 << 20;
  command.request.milli_cpu = 250;
  command.request.pids = 9;
  command.request.timeout = std::chrono::milliseconds(1500);
  command.request.file_bytes = 4096;
  command.request.cpu_seconds = 3;
  command.request.binds = {{.target = "/data", .read_only = true}};
  command.request.tmpfs = {{.target = "/s", .bytes = 8192, .mode = 0750, .exec = true}};
  command.request.read_only = true;
  command.request.network = {.mode = "nat", .allow = {"192.0.2.0/24:443"}, .rate = 1 << 20};
  command.request.publish = {"8080:80"};
  command.request.detached = command.request.keep = true;
  command.request.stop_signal = "SIGINT";
  command.state = KeptCommand::State::ended;
  command.sandbox = "run.alpine-3";
  command.created_ms = 1'714'564'800'250;
  command.started_ms = command.created_ms + 1;
  command.ended_ms = command.created_ms + 2;
  command.end.emplace().ending = agent::CommandEnding::killed;
  command.end->signal = 9;
  command.end->message = "why";
  command.end->wall_us = 77;
  return command;
}

}  // namespace

TEST_CASE("a record comes back with all that it had") {
  for (const auto state :
       {KeptCommand::State::created, KeptCommand::State::running, KeptCommand::State::ended}) {
    KeptCommand command = whole();
    command.state = state;
    if (state != KeptCommand::State::ended) {
      command.end.reset();
      command.ended_ms = 0;
    }
    const std::string text = agent::text_of(agent::document_of(command));
    const auto again = agent::kept_command_of(text);
    REQUIRE(again);
    CHECK(agent::text_of(agent::document_of(*again)) == text);
  }
}

TEST_CASE("what is no record is refused") {
  const auto good = agent::document_of(whole());
  for (const char* missing : {"id", "name", "arguments", "state", "end", "memory", "tmpfs"}) {
    auto document = good;
    document.erase(missing);
    CAPTURE(missing);
    CHECK(!agent::kept_command_of(agent::text_of(document)));
  }
  auto document = good;
  document["state"] = "gone";
  CHECK(!agent::kept_command_of(agent::text_of(document)));
  document = good;
  document["id"] = "x";
  CHECK(!agent::kept_command_of(agent::text_of(document)));
  CHECK(!agent::kept_command_of("{"));
}

TEST_CASE("arguments that are no text do not spoil a record") {
  KeptCommand command = whole();
  command.request.arguments = {"\xff\xfe"};
  CHECK(agent::kept_command_of(agent::text_of(agent::document_of(command))));
}

TEST_CASE("names and ids cannot be taken for each other") {
  const std::string id = agent::new_command_id();
  CHECK(agent::is_command_id(id));
  CHECK(id != agent::new_command_id());
  CHECK(!agent::check_command_name(id).empty());
  CHECK(agent::check_command_name("web-1.b_c").empty());
  for (const char* wrong : {"", "-a", ".a", "A", "a b", "a/b"}) {
    CHECK(!agent::check_command_name(wrong).empty());
  }
  CHECK(!agent::check_command_name(std::string(64, 'a')).empty());
}

TEST_CASE("a command is kept for its name, its terminal, or because it is asked") {
  agent::CommandRequest request;
  CHECK(!agent::is_kept(request));
  request.name = "x";
  CHECK(agent::is_kept(request));
  request = {};
  request.terminal = true;
  CHECK(agent::is_kept(request));
  request = {};
  request.detached = true;
  CHECK(agent::is_kept(request));
  request = {};
  request.keep = true;
  CHECK(agent::is_kept(request));
}
