// Networks of functions and commands, against an agent whose host is a namespace made for it: it
// never leaves this machine.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>

#include "tests/integration/city.h"

namespace {

using namespace tests;
using Catch::Contains;

constexpr std::uint16_t kWeb = 80;

constexpr const char* kHandler = R"(
import socket
def main(event, context):
    family = socket.AF_INET6 if ":" in event["host"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(5)
        try:
            s.connect((event["host"], event["port"]))
            s.send(b"hello")
            return "yes" if s.recv(10) else "closed"
        except OSError as error:
            return type(error).__name__
)";

}  // namespace

TEST_CASE("network nat: a command reaches what is public, and neither host, metadata nor private") {
  need_image();
  const City city;
  const Echo web(city.town.outside(), kWeb);
  const Echo host(city.town.host(), kWeb);
  CHECK(city.ask({"--network", "nat"}, Town::kPublic4, kWeb) == "yes");
  CHECK(city.ask({"--network", "nat"}, Town::kPublic6, kWeb) == "yes");
  CHECK(city.ask({"--network", "nat"}, Town::kPublic4, kWeb, "udp") == "yes");
  for (const char* address : {Town::kHost4, Town::kMetadata, Town::kPrivate4, Town::kPrivate6}) {
    INFO(address);
    CHECK(city.ask({"--network", "nat"}, address, kWeb) != "yes");
  }
  CHECK(city.ask({}, Town::kPublic4, kWeb) == "OSError");  // none: there is no route
}

TEST_CASE("network nat: an allow-list is all that a command reaches") {
  need_image();
  const City city;
  const Echo web(city.town.outside(), kWeb);
  const Echo other(city.town.outside(), 81);
  const std::vector<std::string> flags{"--network",      "nat",     "--allow",
                                       "203.0.113.7:80", "--allow", "192.168.77.0/24"};
  CHECK(city.ask(flags, Town::kPublic4, 80) == "yes");
  CHECK(city.ask(flags, Town::kPrivate4, 81) == "yes");
  CHECK(city.ask(flags, Town::kPublic4, 81) != "yes");
  CHECK(city.ask(flags, Town::kOther4, 80) != "yes");
  CHECK(city.ask(flags, "10.231.0.1", 53) != "yes");  // a question would be a way out
}

TEST_CASE("network nat: names are asked of the host's resolver, by UDP and TCP") {
  need_image();
  const City city;
  const Echo resolver(city.town.outside(), 53);
  const Ran ran = city.run({"--network", "nat"},
                           "print(open('/etc/resolv.conf').read(), ask('10.231.0.1', 53, 'udp'), "
                           "ask('10.231.0.1', 53, 'tcp'))");
  INFO(ran.err);
  CHECK(ran.out == "nameserver 10.231.0.1\n yes yes\n");
  CHECK(resolver.heard("hello"));
}

TEST_CASE("network host-loopback: the named ports of the host, and nothing else") {
  need_image();
  const City city;
  const Echo named(city.town.host(), 5432);
  const Echo other(city.town.host(), 5433);
  const std::vector<std::string> flags{"--network", "host-loopback:5432"};
  CHECK(city.ask(flags, "127.0.0.1", 5432) == "yes");
  CHECK(city.ask(flags, "::1", 5432) == "yes");
  CHECK(city.ask(flags, "127.0.0.1", 5433) == "ConnectionRefusedError");
  CHECK(city.ask(flags, Town::kHost4, 5432) == "OSError");
  CHECK(city.ask(flags, Town::kPublic4, 5432) == "OSError");
  CHECK(city.ask({"--network", "host-loopback:5999"}, "127.0.0.1", 5999) != "yes");
}

TEST_CASE("network: what cannot be is refused, and says what to do") {
  need_image();
  const City city;
  const auto refusal = [&](std::vector<std::string> flags) {
    const Ran ran = city.run(std::move(flags), "pass");
    CHECK(ran.exit == 125);
    return ran.err;
  };
  CHECK_THAT(refusal({"--network", "host"}), Contains("network must be none, nat"));
  CHECK_THAT(refusal({"--network", "host-loopback:0"}), Contains("host-loopback takes ports"));
  CHECK_THAT(refusal({"--network", "nat", "--allow", "169.254.169.254"}),
             Contains("cannot be allowed"));
  CHECK_THAT(refusal({"--network", "nat", "--allow", "*.com:443"}), Contains("top-level"));
  CHECK_THAT(refusal({"--allow", "203.0.113.7"}), Contains("for network nat"));
  CHECK_THAT(refusal({"--network", "nat", "--network-rate", "1KiB"}), Contains("128KiB"));
  REQUIRE(netns::run_inside(city.town.host(), [&]() -> base::Status {
    std::ofstream("/proc/sys/net/ipv4/ip_forward") << "0";
    return {};
  }));
  CHECK_THAT(refusal({"--network", "nat"}), Contains("sysctl -w net.ipv4.ip_forward=1"));
}

TEST_CASE("network nat: functions have theirs, each policy a pool of its own that goes with it") {
  need_image();
  const City city({"python3"});
  const Echo web(city.town.outside(), kWeb);
  AgentFixture& agent = *city.agent;
  agent.deploy("open", kHandler, {{"network", "nat"}});
  agent.deploy("listed", kHandler, {{"network", "nat"}, {"allow", {"203.0.113.8:80"}}});
  agent.deploy("closed", kHandler);
  const Json there{{"host", Town::kPublic4}, {"port", kWeb}};
  CHECK(agent.invoke("open", there).json() == "yes");
  CHECK(agent.invoke("open", there).json() == "yes");
  CHECK(agent.invoke("listed", there).json() != "yes");
  CHECK(agent.invoke("listed", {{"host", Town::kOther4}, {"port", kWeb}}).json() == "yes");
  CHECK(agent.invoke("closed", there).json() == "OSError");
  CHECK(agent.describe("listed")["settings"]["allow"] == Json{"203.0.113.8:80"});
  const auto pools = [&] { return agent.status()["runtimes"].size(); };
  CHECK(pools() == 3);
  agent.remove("listed");
  CHECK(soon([&] { return pools() == 2; }));
  agent.deploy("open", kHandler);  // without
  CHECK(agent.invoke("open", there).json() == "OSError");
  CHECK(soon([&] { return pools() == 1; }));
}

TEST_CASE("network nat: a function still has it after the agent was killed, and nothing piles up") {
  need_image();
  const City city({"python3"});
  const Echo web(city.town.outside(), kWeb);
  AgentFixture& agent = *city.agent;
  agent.deploy("open", kHandler, {{"network", "nat"}});
  const Json there{{"host", Town::kPublic4}, {"port", kWeb}};
  for (int i = 0; i < 2; ++i) {
    CHECK(agent.invoke("open", there).json() == "yes");
    agent.kill();
    agent.start();
  }
  CHECK(agent.invoke("open", there).json() == "yes");
  CHECK(city.left_on_host() == 2);
  agent.stop();
  CHECK(city.left_on_host() == 0);
}

TEST_CASE("network nat: an agent takes away what one that was killed has left on the host") {
  need_image();
  const City city;
  const Echo web(city.town.outside(), kWeb);
  REQUIRE(city.ask({"--network", "nat"}, Town::kPublic4, kWeb) == "yes");
  CHECK(city.left_on_host() == 2);
  city.agent->kill();
  CHECK(soon([&] { return city.left_on_host() == 1; }));  // the interface goes with the router
  city.agent->start();
  CHECK(soon([&] { return city.left_on_host() == 0; }));  // though nobody asks for a network again
}

TEST_CASE("network nat: what a sandbox sends is counted, and what it is denied") {
  need_image();
  const City city;
  const Echo web(city.town.outside(), kWeb);
  Running ran({"--socket", city.agent->socket(), "run", "--network", "nat", "--image", "python3",
               "--", "python3", "-c",
               std::string(kAsk) + "import time\nask('203.0.113.7', 80)\nask('192.168.77.7', 80)\n"
                                   "time.sleep(60)\n"});
  Json seen;
  CHECK(soon([&] {
    for (const Json& sandbox : city.agent->sandboxes()) {
      if (!sandbox["command"].get<std::string>().empty()) {
        seen = sandbox["network"];
      }
    }
    return seen.is_object() && seen["denied_packets"] > 0;
  }));
  REQUIRE(seen.is_object());
  CHECK(seen["addresses"].size() == 2);
  CHECK(seen["sent_packets"] > 3);
  CHECK(seen["received_bytes"] > 100);
}

TEST_CASE("network nat: what was sent and denied stands in a command's end, and in stats") {
  need_image();
  const City city({"python3"});
  const Echo web(city.town.outside(), kWeb);
  const Ran ran = city.run({"--network", "nat", "--stats-json", "-"},
                           "ask('203.0.113.7', 80)\nask('192.168.77.7', 80)\n");
  REQUIRE(ran.exit == 0);
  const Json counted = Json::parse(ran.err).at("network");
  CHECK(counted.at("sent_packets") > 3);
  CHECK(counted.at("sent_bytes") > 100);
  CHECK(counted.at("received_packets") > 2);
  CHECK(counted.at("received_bytes") > 100);
  CHECK(counted.at("denied_packets") >= 1);
  const Ran without = city.run({"--stats-json", "-"}, "");
  CHECK_FALSE(Json::parse(without.err).contains("network"));
  city.agent->deploy("open", kHandler, {{"network", "nat"}});
  CHECK(city.agent->invoke("open", {{"host", Town::kPublic4}, {"port", kWeb}}).json() == "yes");
  Json stats;
  CHECK(soon([&] {
    const Ran asked = run_brood({"--socket", city.agent->socket(), "stats", "open", "--json"});
    stats = Json::parse(asked.out).at("functions").at(0).at("networks");
    return stats.size() == 1 && stats[0].at("sent_packets") > 3;
  }));
  CHECK(stats.at(0).at("addresses").size() == 2);
  const Ran table = run_brood({"--socket", city.agent->socket(), "stats"});
  CHECK_THAT(table.out,
             Contains("DENIED") && Contains(stats.at(0).at("sandbox").get<std::string>()));
}

TEST_CASE("network: the relay that dies is started again, and keeps what it listened on") {
  need_image();
  const City city;
  const Echo named(city.town.host(), 5432);
  const auto relays = [&] { return children_named("brood-relay", city.agent->pid()); };
  Running ran({"--socket", city.agent->socket(), "run", "--network", "host-loopback:5432",
               "--image", "python3", "--", "python3", "-u", "-c",
               std::string(kAsk) + "import sys\nfor line in sys.stdin: "
                                   "print(ask('127.0.0.1', 5432))\n"});
  REQUIRE(soon([&] { return relays().size() == 1; }));
  const pid_t first = relays().front();
  REQUIRE(::kill(first, SIGKILL) == 0);
  CHECK(soon([&] {
    const auto now = relays();
    return now.size() == 1 && now.front() != first;
  }));
  CHECK(city.ask({"--network", "host-loopback:5432"}, "127.0.0.1", 5432) == "yes");
}

TEST_CASE("network nat: a published port leads to the sandbox for as long as it is there") {
  need_image();
  const City city;
  const auto serve = [&](const std::string& kind) {
    return std::vector<std::string>{
        "--socket",
        city.agent->socket(),
        "run",
        "--network",
        "nat",
        "-p",
        "8080:80",
        "-p",
        "203.0.113.1:8053:53/udp",
        "--image",
        "python3",
        "--",
        "python3",
        "-u",
        "-c",
        "import socket, threading\n"
        "tcp = socket.create_server(('', 80))\n"
        "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('', 53))\n"
        "def answer():\n"
        "  while True:\n"
        "    text, who = udp.recvfrom(100); udp.sendto(b'u', who)\n"
        "threading.Thread(target=answer, daemon=True).start()\n"
        "print('" +
            kind +
            "')\n"
            "while True:\n"
            "  one, _ = tcp.accept(); one.sendall(b't'); one.close()\n"};
  };
  {
    Running server(serve("serves"));
    REQUIRE(server.prints("serves"));
    CHECK(soon([&] { return tcp(city.town.outside(), Town::kHost4, 8080); }));
    CHECK(tcp(city.town.outside(), Town::kHost6, 8080));
    CHECK(tcp(city.town.host(), "127.0.0.1", 8080));
    CHECK(udp(city.town.outside(), Town::kHost4, 8053));
    CHECK_FALSE(udp(city.town.host(), "127.0.0.1", 8053, kSilence));  // on the one address alone
    CHECK_FALSE(tcp(city.town.outside(), Town::kHost4, 80, kSilence));
    const Ran second = run_brood({"--socket", city.agent->socket(), "run", "--network", "nat", "-p",
                                  "8080:80", "--", "/bin/true"});
    CHECK(second.exit == 125);
    CHECK_THAT(second.err, Contains("EADDRINUSE"));
  }
  CHECK(soon([&] { return !tcp(city.town.outside(), Town::kHost4, 8080, kSilence); }));
  // brood-relay closes what listened a moment after the command's end was told.
  std::optional<Running> again;
  CHECK(soon([&] { return again.emplace(serve("again")).prints("again"); }));
  CHECK(soon([&] { return tcp(city.town.outside(), Town::kHost4, 8080); }));
}

namespace {

// What hostile code would try with its wire; a line for each attempt, "ok" or the errno's name.
constexpr const char* kAttempts = R"(
import ctypes, errno, fcntl, os, socket, struct
def attempt(name, what):
    try:
        what()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode.get(error.errno, "other"))
def netlink(kind, flags, body):
    def send():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
            s.send(struct.pack("IHHII", 16 + len(body), kind, 5 | flags, 1, 0) + body)
            answer = s.recv(4096)
            error = -struct.unpack_from("i", answer, 16)[0]
            if error:
                raise OSError(error, "")
    return send
index = socket.if_nametoindex("eth0")
def attribute(kind, value):
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
other = socket.inet_aton("10.231.1.77")
mac = b"\x02\0\0\0\0\x09"
attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
attempt("raw6", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6))
attempt("netfilter", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
attempt("mac", netlink(19, 0, struct.pack("BBHiII", 0, 0, 0, index, 0, 0) + attribute(1, mac)))
attempt("arp", netlink(19, 0, struct.pack("BBHiII", 0, 0, 0, index, 0, 0x80)))
attempt("remove", netlink(17, 0, struct.pack("BBHiII", 0, 0, 0, index, 0, 0)))
attempt("bridge", netlink(16, 0x600, struct.pack("BBHiII", 0, 0, 0, 0, 0, 0) +
                          attribute(18, attribute(1, b"bridge"))))
attempt("address", netlink(20, 0x600, struct.pack("BBBBi", 2, 32, 0, 0, index) +
                           attribute(2, other) + attribute(1, other)))
attempt("neighbour", netlink(28, 0x600, struct.pack("BBHiHBB", 2, 0, 0, index, 0x80, 0, 0) +
                             attribute(1, other) + attribute(2, mac)))
attempt("route", netlink(24, 0x600, struct.pack("BBBBBBBBI", 2, 32, 0, 0, 254, 4, 253, 1, 0) +
                         attribute(1, other) + attribute(4, struct.pack("i", index))))
attempt("ioctl", lambda: fcntl.ioctl(socket.socket(), 0x8916, struct.pack(
    "16sHH4s8x", b"eth0", 2, 0, other)))
for name in ("ipv4/ip_forward", "ipv4/conf/eth0/arp_accept", "ipv6/conf/eth0/accept_ra"):
    attempt("sysctl", lambda: open("/proc/sys/net/" + name, "w").write("1"))
attempt("transparent", lambda: socket.socket().setsockopt(socket.SOL_IP, 19, 1))
attempt("mark", lambda: socket.socket().setsockopt(socket.SOL_SOCKET, 36, 1))
def spoof():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_IP, 15, 1)
    s.bind(("10.231.1.77", 4444))
    s.sendto(b"forged", ("203.0.113.7", 80))
try:
    spoof()
except OSError:
    pass
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"honest", ("203.0.113.7", 80))
)";

}  // namespace

TEST_CASE("network nat: hostile code can change nothing of its wire, not even as root inside") {
  need_image();
  const City city;
  const Echo web(city.town.outside(), kWeb);
  for (const char* user : {"1000", "0:0"}) {
    INFO(user);
    const Ran ran =
        run_brood({"--socket", city.agent->socket(), "run", "--network", "nat", "--user", user,
                   "--image", "python3", "--", "python3", "-c", kAttempts});
    INFO(ran.err);
    INFO(ran.out);
    REQUIRE(ran.exit == 0);
    CHECK(std::count(ran.out.begin(), ran.out.end(), '\n') == 17);
    CHECK(ran.out.find(" ok") == std::string::npos);
    for (const char* refused :
         {"mac", "arp", "remove", "bridge", "address", "neighbour", "route"}) {
      CHECK_THAT(ran.out, Contains(std::string(refused) + " EPERM"));
    }
  }
  CHECK(soon([&] { return web.heard("honest"); }));
  CHECK_FALSE(web.heard("forged"));
}
