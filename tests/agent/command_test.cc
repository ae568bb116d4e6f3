#include "agent/command.h"

#include <catch2/catch.hpp>
#include <csignal>

using agent::CommandEnding;
using agent::CommandRequest;
using agent::Evidence;
using Catch::Contains;

namespace {

CommandRequest fine() {
  CommandRequest request;
  request.arguments = {"true"};
  return request;
}

Evidence exited(int status) {
  Evidence evidence;
  evidence.handler_ended = true;
  evidence.handler_status = status;
  return evidence;
}

Evidence killed(int signal) {
  Evidence evidence;
  evidence.handler_ended = true;
  evidence.handler_signal = signal;
  return evidence;
}

int code_of(const Evidence& evidence) {
  return agent::exit_code_of(agent::judge_command(evidence, fine()));
}

}  // namespace

TEST_CASE("a command that makes sense is taken") {
  CHECK(agent::validate(fine()).empty());
}

TEST_CASE("a command that makes none is refused by the field's name") {
  const auto broken = [](auto change) {
    CommandRequest request = fine();
    change(request);
    return agent::validate(request);
  };
  CHECK_THAT(broken([](auto& r) { r.arguments = {""}; }), Contains("arguments"));
  CHECK_THAT(broken([](auto& r) {
               r.arguments = {"a", std::string("b\0c", 3)};
             }),
             Contains("arguments"));
  CHECK_THAT(broken([](auto& r) {
               r.arguments = {"a", std::string(200 << 10, 'x')};
             }),
             Contains("arguments"));
  CHECK_THAT(broken([](auto& r) { r.image = "../base"; }), Contains("image"));
  CHECK_THAT(broken([](auto& r) { r.environment["A=B"] = ""; }), Contains("environment"));
  CHECK_THAT(broken([](auto& r) { r.environment["A"] = std::string("b\0c", 3); }),
             Contains("environment"));
  CHECK_THAT(broken([](auto& r) { r.environment["A"] = std::string(70 << 10, 'x'); }),
             Contains("environment"));
  CHECK_THAT(broken([](auto& r) { r.directory = "tmp"; }), Contains("directory"));
  CHECK_THAT(broken([](auto& r) { r.memory_bytes = 1; }), Contains("memory"));
  CHECK_THAT(broken([](auto& r) { r.milli_cpu = 0; }), Contains("cpu"));
  CHECK_THAT(broken([](auto& r) { r.pids = 1; }), Contains("pids"));
  CHECK_THAT(broken([](auto& r) { r.timeout = std::chrono::hours(25); }), Contains("timeout"));
  CHECK_THAT(broken([](auto& r) {
               r.terminal = true;
               r.rows = 0;
             }),
             Contains("terminal"));
}

TEST_CASE("a command's end is told as a shell tells it") {
  CHECK(code_of(exited(0)) == 0);
  CHECK(code_of(exited(7)) == 7);
  CHECK(code_of(killed(SIGTERM)) == 143);
  CHECK(code_of(killed(SIGKILL)) == 137);
}

TEST_CASE("what the agent did itself comes before what it brought about") {
  Evidence evidence = killed(SIGKILL);
  evidence.timed_out = true;
  CHECK(agent::judge_command(evidence, fine()).ending == CommandEnding::timeout);
  CHECK(code_of(evidence) == 124);
  evidence.cancelled = true;
  CHECK(agent::judge_command(evidence, fine()).ending == CommandEnding::cancelled);
  evidence.own_fault = "no sandbox";
  CHECK(agent::judge_command(evidence, fine()).ending == CommandEnding::internal);
  CHECK(code_of(evidence) == 125);
}

TEST_CASE("a command that the kernel killed for its memory is told from one that lost a child") {
  Evidence evidence = killed(SIGKILL);
  evidence.oom_kills = 1;
  const auto end = agent::judge_command(evidence, fine());
  CHECK(end.ending == CommandEnding::out_of_memory);
  CHECK_THAT(end.message, Contains("512MiB"));
  CHECK(agent::exit_code_of(end) == 137);
  Evidence survived = exited(3);
  survived.oom_kills = 1;
  CHECK(agent::judge_command(survived, fine()).ending == CommandEnding::exited);
  CHECK(code_of(survived) == 3);
}

TEST_CASE("a system call that a command may not make is named") {
  Evidence evidence;
  evidence.refused_call = "kexec_load";
  const auto end = agent::judge_command(evidence, fine());
  CHECK(end.ending == CommandEnding::killed);
  CHECK(end.syscall == "kexec_load");
  CHECK(agent::exit_code_of(end) == 128 + SIGSYS);
}

TEST_CASE("a command whose sandbox went without a word was killed from outside") {
  CHECK(code_of(Evidence{}) == 137);
}

TEST_CASE("a command's environment has its own words over those that every command finds") {
  CommandRequest request = fine();
  request.environment = {{"HOME", "/data"}, {"X", "1"}};
  const std::string block = agent::command_environment(request);
  CHECK_THAT(block, Contains(std::string("HOME=/data\0", 11)));
  CHECK_THAT(block, Contains(std::string("X=1\0", 4)));
  CHECK_THAT(block, Contains("PATH="));
  CHECK_THAT(block, !Contains("HOME=/tmp") && !Contains("TERM="));
  request.terminal = true;
  CHECK_THAT(agent::command_environment(request), Contains("TERM=xterm"));
}

TEST_CASE("what an image says of its command comes under what is asked, as docker has it") {
  const rootfs::ImageConfig image{.entrypoint = {"/bin/e", "-x"},
                                  .command = {"default"},
                                  .environment = {"A=image", "B=image=b"},
                                  .directory = "/w"};
  CommandRequest none;
  const auto resolved = agent::resolve(none, image);
  CHECK(resolved.arguments == std::vector<std::string>{"/bin/e", "-x", "default"});
  CHECK(resolved.environment.at("A") == "image");
  CHECK(resolved.environment.at("B") == "image=b");
  CHECK(resolved.directory == "/w");

  CommandRequest asked = none;
  asked.arguments = {"own"};
  asked.environment = {{"A", "asked"}};
  asked.directory = "/d";
  const auto both = agent::resolve(asked, image);
  CHECK(both.arguments == std::vector<std::string>{"/bin/e", "-x", "own"});
  CHECK(both.environment.at("A") == "asked");
  CHECK(both.directory == "/d");

  asked.entrypoint = std::vector<std::string>{"/bin/other"};
  CHECK(agent::resolve(asked, image).arguments == std::vector<std::string>{"/bin/other", "own"});
  asked.arguments.clear();  // the image's command is of no use to another entrypoint
  CHECK(agent::resolve(asked, image).arguments == std::vector<std::string>{"/bin/other"});
  asked.entrypoint = std::vector<std::string>{""};
  asked.arguments = {"sh"};
  CHECK(agent::resolve(asked, image).arguments == std::vector<std::string>{"sh"});
}

TEST_CASE("without a command of its own or the image's there is nothing to run") {
  const auto resolved = agent::resolve(CommandRequest{}, {});
  CHECK(agent::validate(resolved).empty());
  CHECK_THAT(agent::validate_resolved(resolved), Contains("there is no command"));
  CHECK(resolved.directory == "/");
  CHECK(agent::validate_resolved(agent::resolve(fine(), {})).empty());
}

TEST_CASE("what is mounted beside the root has a place of its own, and none of the sandbox's") {
  const auto bind = [](const std::string& target) {
    CommandRequest request = fine();
    request.binds.push_back({.target = target});
    return agent::validate(request);
  };
  for (const char* target : {"/data", "/tmp/x", "/processes", "/a/b.c/..d", "/devices"}) {
    CAPTURE(target);
    CHECK(bind(target).empty());
  }
  for (const char* target : {"", "/", "data", "/a/../b", "/a/.", "/a//b", "/a/", "/proc", "/proc/1",
                             "/dev", "/dev/shm", "/sys/fs"}) {
    CAPTURE(target);
    CHECK_THAT(bind(target), Contains("binds"));
  }
  CHECK_THAT(bind(std::string("/a\0b", 4)), Contains("binds"));
  CHECK_THAT(bind("/" + std::string(2000, 'x')), Contains("binds"));
  CommandRequest twice = fine();
  twice.binds.push_back({.target = "/data"});
  twice.tmpfs.push_back({.target = "/data"});
  CHECK_THAT(agent::validate(twice), Contains("twice"));
  CommandRequest many = fine();
  for (std::size_t i = 0; i <= agent::kMostBinds; ++i) {
    many.binds.push_back({.target = "/data" + std::to_string(i)});
  }
  CHECK_THAT(agent::validate(many), Contains("16"));
  const auto tmpfs = [](std::uint64_t bytes, std::uint32_t mode) {
    CommandRequest request = fine();
    request.tmpfs.push_back({.target = "/scratch", .bytes = bytes, .mode = mode});
    return agent::validate(request);
  };
  CHECK(tmpfs(4096, 0).empty());
  CHECK_THAT(tmpfs(4095, 0), Contains("size"));
  CHECK_THAT(tmpfs(4096, 02777), Contains("mode"));
}
