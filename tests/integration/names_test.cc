// Allow-lists by name, from inside sandboxes of an agent: what DNS says is what is open, and DNS
// itself is no way out.
#include <signal.h>

#include <catch2/catch.hpp>

#include "tests/integration/city.h"
#include "tests/netns/name_server.h"

namespace {

using namespace tests;
using Catch::Contains;

constexpr std::uint16_t kWeb = 80;

NameServer::Zone zone() {
  return {{"web.example.com", {Town::kPublic4, Town::kPublic6}},
          {"cdn.example.com", {"=edge.example.net"}},
          {"edge.example.net", {Town::kOther4}},
          {"a.b.wild.example.org", {Town::kOther4}},
          {"wild.example.org", {Town::kPublic4}},
          {"other.example.net", {Town::kPublic4}},
          {"private.example.com", {Town::kPrivate4, Town::kPrivate6}},
          {"metadata.example.com", {Town::kMetadata}},
          {"host.example.com", {Town::kHost4, Town::kHost6}},
          {"loopback.example.com", {"127.0.0.1", "::1"}}};
}

const std::vector<std::string> kFlags{"--network", "nat",
                                      "--allow",   "web.example.com:80",
                                      "--allow",   "cdn.example.com:80",
                                      "--allow",   "*.wild.example.org:80",
                                      "--allow",   "private.example.com",
                                      "--allow",   "metadata.example.com",
                                      "--allow",   "host.example.com",
                                      "--allow",   "loopback.example.com"};

// By name, which is resolved as any program does it, and by address.
constexpr const char* kByName = R"(
def named(name, port=80, family=socket.AF_INET):
    try:
        found = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {socket.EAI_NONAME: "no name", socket.EAI_AGAIN: "again",
                socket.EAI_NODATA: "no name"}.get(error.errno, str(error))
    return ask(found[0][4][0], port)
)";

struct Named {
  City city;
  Echo web{city.town.outside(), kWeb};
  NameServer names{city.town.outside(), zone()};

  std::string run(const std::string& script, const std::vector<std::string>& flags = kFlags) const {
    const Ran ran = city.run(flags, std::string(kByName) + script);
    INFO(ran.err);
    REQUIRE(ran.exit == 0);
    return ran.out;
  }
};

// A question for a name, by hand.
constexpr const char* kByHand = R"(
import struct
def question(name, kind=1, extra=b""):
    body = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".")) + b"\0"
    return struct.pack(">HHHHHH", 77, 0x100, 1, 0, 0, 0) + body + struct.pack(">HH", kind, 1) + extra
def answer(message, patience=2):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(patience)
        s.sendto(message, ("10.231.0.1", 53))
        try:
            got = s.recv(4096)
        except OSError:
            return "silence"
        return "%d %d" % (got[3] & 15, got[7])
)";

}  // namespace

TEST_CASE("names: a name of the list is reached, its address not before, and no other name") {
  need_image();
  const Named town;
  CHECK(town.run("print(ask('203.0.113.7', 80) == 'yes')\n"
                 "print(named('web.example.com'), named('WEB.example.com'))\n"
                 "print(ask('203.0.113.7', 80), ask('203.0.113.7', 81) == 'yes')\n"
                 "print(named('web.example.com', 80, socket.AF_INET6))\n"
                 "print(ask('203.0.113.8', 80) == 'yes')\n"
                 "print(named('other.example.net'))\n") ==
        "False\nyes yes\nyes False\nyes\nFalse\nno name\n");
  CHECK(town.names.asked("other.example.net") == 0);
  CHECK(town.names.asked("web.example.com") > 0);
}

TEST_CASE(
    "names: an alias is followed, a star stands for labels, and what is behind them is open") {
  need_image();
  const Named town;
  CHECK(town.run("print(named('edge.example.net'))\n"
                 "print(named('cdn.example.com'))\n"
                 "print(named('wild.example.org'))\n") == "no name\nyes\nno name\n");
  CHECK(town.run("print(named('a.b.wild.example.org'))\n"
                 "print(named('missing.wild.example.org'))\n") == "yes\nno name\n");
}

TEST_CASE("names: no answer opens what is private, the metadata service, or the host") {
  need_image();
  Named town;
  const Echo host(town.city.town.host(), kWeb);
  REQUIRE(tcp(town.city.town.host(), Town::kPrivate4, kWeb));
  REQUIRE(tcp(town.city.town.host(), Town::kMetadata, kWeb));
  CHECK(town.run("for name in 'private', 'metadata', 'host', 'loopback':\n"
                 "  for family in socket.AF_INET, socket.AF_INET6:\n"
                 "    if named(name + '.example.com', 80, family) == 'yes': print(name)\n"
                 "print('done')\n") == "done\n");
  CHECK(town.names.asked("private.example.com") > 0);
  CHECK(town.names.asked("host.example.com") > 0);
  // Nor of a name that stood for what is public a moment ago.
  CHECK(town.run("print(named('web.example.com'))") == "yes\n");
  town.names.set("web.example.com", {Town::kPrivate4, Town::kMetadata});
  CHECK(town.run("print(named('web.example.com') == 'yes')") == "False\n");
}

TEST_CASE("names: what a name stood for for one policy is not open to another") {
  need_image();
  const Named town;
  Running first({"--socket", town.city.agent->socket(), "run", "--network", "nat", "--allow",
                 "web.example.com:80", "--image", "python3", "--", "python3", "-u", "-c",
                 std::string(kAsk) + kByName +
                     "import sys\nprint(named('web.example.com'))\nsys.stdin.read()"});
  REQUIRE(first.prints("yes"));
  const std::vector<std::string> other{"--network", "nat", "--allow", "cdn.example.com:80"};
  CHECK(town.run("print(ask('203.0.113.7', 80) == 'yes')", other) == "False\n");
  const std::vector<std::string> same{"--network", "nat", "--allow", "web.example.com:80"};
  CHECK(town.run("print(ask('203.0.113.7', 80))", same) == "yes\n");
}

TEST_CASE("names: DNS is no way out") {
  need_image();
  const Named town;
  const int before = town.names.asked();
  CHECK(town.run(std::string(kByHand) +
                 "print(answer(question('secret.evil.example.net')))\n"  // NXDOMAIN
                 "print(answer(question('web.example.com.evil.example.net')))\n"
                 "print(answer(question('web.example.com', 16)))\n"  // TXT: nothing
                 "print(answer(b'hello', 0.3), answer(b'x' * 600, 0.3))\n"
                 "print(ask('10.231.0.1', 53, 'tcp') == 'yes')\n"
                 "print(ask('203.0.113.7', 53, 'udp') == 'yes')\n") ==
        "3 0\n3 0\n0 0\nsilence silence\nFalse\nFalse\n");
  CHECK(town.names.asked() == before);
  // What is tagged on to a question that may be asked does not get there.
  CHECK(town.run(std::string(kByHand) +
                 "print(answer(question('web.example.com', 1, b'secret' * 10)))\n") == "0 1\n");
  CHECK(town.names.asked("web.example.com") == 1);
}

TEST_CASE("names: what answers has no power, and one that dies is started again") {
  need_image();
  const Named town;
  Running kept({"--socket", town.city.agent->socket(), "run", "--network", "nat", "--allow",
                "web.example.com:80", "--image", "python3", "--", "python3", "-u", "-c",
                std::string(kAsk) + kByName +
                    "import sys\nfor line in sys.stdin: print(named('web.example.com'))\n"});
  const auto answering = [&] { return children_named("brood-names", town.city.agent->pid()); };
  REQUIRE(soon([&] { return answering().size() == 1; }));
  const pid_t first = answering().front();
  std::string status;
  const auto powerless = [&] {
    std::ifstream file("/proc/" + std::to_string(first) + "/status");
    status.assign(std::istreambuf_iterator<char>(file), {});
    return status.find("CapBnd:\t0000000000000000") != std::string::npos &&
           status.find("CapPrm:\t0000000000000000") != std::string::npos &&
           status.find("NoNewPrivs:\t1") != std::string::npos &&
           status.find("Seccomp_filters:\t2") != std::string::npos &&
           status.find("\nUid:\t0") == std::string::npos;
  };
  CHECK(soon(powerless));
  INFO(status);
  REQUIRE(::kill(first, SIGKILL) == 0);
  CHECK(soon([&] {
    const auto now = answering();
    return now.size() == 1 && now.front() != first;
  }));
  const std::vector<std::string> same{"--network", "nat", "--allow", "web.example.com:80"};
  CHECK(town.run("print(named('web.example.com'))\n", same) == "yes\n");
}

TEST_CASE("names: a function has its list, and its resolver goes with its last sandbox") {
  need_image();
  const City city({"python3"});
  const Echo web(city.town.outside(), kWeb);
  const NameServer names(city.town.outside(), zone());
  AgentFixture& agent = *city.agent;
  agent.deploy("named",
               "import socket\n"
               "def main(event, context):\n"
               "    try:\n"
               "        with socket.create_connection((event, 80), 5) as s:\n"
               "            s.send(b'hello')\n"
               "            return 'yes' if s.recv(10) else 'closed'\n"
               "    except OSError as error:\n"
               "        return type(error).__name__\n",
               {{"network", "nat"}, {"allow", {"web.example.com:80"}}});
  CHECK(agent.invoke("named", "web.example.com").json() == "yes");
  CHECK(agent.invoke("named", "cdn.example.com").json() == "gaierror");
  CHECK(agent.describe("named")["settings"]["allow"] == Json{"web.example.com:80"});
  CHECK(children_named("brood-names", agent.pid()).size() == 1);
  agent.remove("named");
  CHECK(soon([&] { return children_named("brood-names", agent.pid()).empty(); }));
}
