// What brood-names makes of messages that are not as they should be.
#include "cmd/dns_message.h"

#include <catch2/catch.hpp>

namespace {

using namespace cmd;
using namespace std::literals;

constexpr std::uint16_t kId = 0x1234;
const std::string kName = "\7example\3com\0"s;
const std::string kIn = "\0\1\0\1"s;  // A, IN
const std::string kMinute = "\0\0\0\x3c"s;

std::string header(int flags, int questions, int answers) {
  std::string bytes{0x12, 0x34};
  for (const int value : {flags, questions, answers, 0, 0}) {
    bytes += static_cast<char>(value >> 8);
    bytes += static_cast<char>(value & 0xff);
  }
  return bytes;
}

std::string question(const std::string& name = kName, int flags = 0x0100) {
  return header(flags, 1, 0) + name + kIn;
}

std::string record(const std::string& owner, const std::string& type, const std::string& data,
                   const std::string& seconds = kMinute) {
  return owner + type + "\0\1"s + seconds + '\0' + static_cast<char>(data.size()) + data;
}

std::string a(const std::string& owner, const std::string& address,
              const std::string& seconds = kMinute) {
  return record(owner, "\0\1"s, address, seconds);
}

std::string alias(const std::string& owner, const std::string& name,
                  const std::string& seconds = kMinute) {
  return record(owner, "\0\5"s, name, seconds);
}

std::optional<DnsAnswer> answered(const std::string& records, int count, int flags = 0x8180) {
  return parse_dns_answer(header(flags, 1, count) + kName + kIn + records, kId, "example.com",
                          kDnsA);
}

const std::string kHere = "\xc0\x0c"s;  // the name of the question
const std::string kAddress = "\xcb\0\x71\7"s;

}  // namespace

TEST_CASE("dns: a question has a name, in lower case, and one alone") {
  const auto asked = parse_dns_question(question("\7eXample\3COM\0"s));
  REQUIRE(asked);
  CHECK(asked->id == kId);
  CHECK(asked->recursion);
  CHECK(asked->name == "example.com");
  CHECK(asked->asked == "\7eXample\3COM\0\0\1\0\1"s);
  CHECK(asked->type == kDnsA);
  CHECK(asked->internet);
  CHECK(parse_dns_question(question() + "\0\0\x29\x10\0\0\0\0\0\0\0"s));  // options: not looked at
}

TEST_CASE("dns: what is no question is not answered") {
  const std::string whole = question();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    INFO(i);
    CHECK_FALSE(parse_dns_question(whole.substr(0, i)));
  }
  CHECK_FALSE(parse_dns_question(question(kName, 0x8180)));  // an answer
  CHECK_FALSE(parse_dns_question(question(kName, 0x2800)));  // an update
  CHECK_FALSE(parse_dns_question(header(0x0100, 2, 0) + kName + kIn));
  CHECK_FALSE(parse_dns_question(header(0x0100, 0, 0)));
  CHECK_FALSE(parse_dns_question(question(kHere)));  // points at itself
  CHECK_FALSE(parse_dns_question(question("\1a\xc0\x0c"s)));
  CHECK_FALSE(parse_dns_question(question("\x40"s + std::string(64, 'a') + '\0')));
  std::string longest;
  for (int i = 0; i < 4; ++i) {
    longest += '\x3f' + std::string(63, 'a');
  }
  CHECK_FALSE(parse_dns_question(question(longest + '\0')));  // 257 bytes
}

TEST_CASE("dns: a name with other bytes than a list can have is nobody's") {
  for (const std::string& name : {"\0"s, "\7exa ple\3com\0"s,
                                  "\x0b"
                                  "example.com\0"s,
                                  "\7ex\0mple\3com\0"s,
                                  "\3"
                                  "1.2\3"
                                  "3.4\0"s}) {
    const auto asked = parse_dns_question(question(name));
    REQUIRE(asked);
    CHECK(asked->name.empty());
  }
}

TEST_CASE("dns: what is asked of the resolver is written anew") {
  CHECK(dns_query(kId, "example.com", kDnsAaaa) ==
        "\x12\x34\1\0\0\1\0\0\0\0\0\1"s + kName + "\0\x1c\0\1"s + "\0\0\x29\4\xd0\0\0\0\0\0\0"s);
}

TEST_CASE("dns: addresses of the name and of what it is another name of") {
  const auto own = answered(a(kHere, kAddress) + a(kHere, "\1\2\3\4", "\0\0\0\x05"s), 2);
  REQUIRE(own);
  CHECK(own->code == DnsCode::none);
  REQUIRE(own->addresses.size() == 2);
  CHECK(own->addresses[0].bytes[0] == 0xcb);
  CHECK(own->seconds == 5);
  const std::string cdn =
      "\3"
      "cdn\3net\0"s;
  for (const std::string& records : {alias(kHere, cdn, "\0\0\0\x07"s) + a(cdn, kAddress),
                                     a(cdn, kAddress) + alias(kName, cdn, "\0\0\0\x07"s)}) {
    const auto over = answered(records, 2);
    REQUIRE(over);
    CHECK(over->addresses.size() == 1);
    CHECK(over->seconds == 7);
  }
  CHECK(answered(a(kHere, kAddress, "\x80\0\0\0"s), 1)->seconds == 0);
}

TEST_CASE("dns: addresses of other names, types and classes are no answer") {
  CHECK(answered(a("\5other\3com\0"s, kAddress), 1)->addresses.empty());
  CHECK(answered(record(kHere, "\0\x1c"s, std::string(16, 'x')), 1)->addresses.empty());
  CHECK(answered(a(kHere, "\1\2\3"), 1)->addresses.empty());
  CHECK(answered(kHere + "\0\1\0\3"s + kMinute + "\0\4"s + kAddress, 1)->addresses.empty());
  CHECK(answered(alias(kHere, kName) + alias(kName, kHere), 2)->addresses.empty());  // in a circle
  std::string chain;
  for (char one = 'a'; one < 'm'; ++one) {
    const std::string owner = one == 'a' ? kHere : std::string("\1") + one + "\3net\0"s;
    chain += alias(owner, std::string("\1") + static_cast<char>(one + 1) + "\3net\0"s);
  }
  CHECK(answered(chain + a("\1m\3net\0"s, kAddress), 13)->addresses.empty());
}

TEST_CASE("dns: an answer to another question is none at all") {
  const std::string body = kName + kIn + a(kHere, kAddress);
  const auto parsed = [](const std::string& bytes, std::uint16_t type = kDnsA) {
    return parse_dns_answer(bytes, kId, "example.com", type).has_value();
  };
  CHECK(parsed(header(0x8180, 1, 1) + body));
  CHECK_FALSE(parse_dns_answer(header(0x8180, 1, 1) + body, kId + 1, "example.com", kDnsA));
  CHECK_FALSE(parsed(header(0x0180, 1, 1) + body));  // a question
  CHECK_FALSE(parsed(header(0x8180, 1, 1) + body, kDnsAaaa));
  CHECK_FALSE(parsed(header(0x8180, 0, 1) + a(kName, kAddress)));
  CHECK_FALSE(parsed(header(0x8180, 1, 1) + "\5other\3com\0"s + kIn + a(kHere, kAddress)));
  CHECK_FALSE(parsed("\x12"));
}

TEST_CASE("dns: what cannot be read, or is too much, is a failure") {
  const auto failed = [](const std::optional<DnsAnswer>& answer) {
    return answer && answer->code == DnsCode::server_failure && answer->addresses.empty();
  };
  const std::string good = a(kHere, kAddress);
  for (std::size_t i = 0; i < good.size(); ++i) {
    INFO(i);
    CHECK(failed(answered(good.substr(0, i), 1)));
  }
  CHECK(failed(answered(good, 2)));
  CHECK(failed(answered(a("\xc0\x1d"s, kAddress), 1)));     // to itself
  CHECK(failed(answered(a("\xc0\x40"s, kAddress), 1)));     // forward
  CHECK(failed(answered(a("\xc0\x02"s, kAddress), 1)));     // into the header
  CHECK(failed(answered(a("\1a\xc0\x1d"s, kAddress), 1)));  // to its own beginning
  CHECK(failed(answered(alias(kHere, kName + "x"), 1)));    // longer than the name
  CHECK(failed(answered(kHere + "\0\5\0\1"s + kMinute + "\0\1"s + kName, 1)));  // shorter
  std::string many;
  for (int i = 0; i < 65; ++i) {
    many += good;
  }
  CHECK(failed(answered(many, 65)));
  CHECK(answered(many, 64)->addresses.size() == kMostDnsAddresses);
  CHECK(failed(answered(good, 1, 0x8185)));  // refused
  CHECK(answered("", 0, 0x8183)->code == DnsCode::no_such_name);
}

TEST_CASE("dns: a reply says the question again, and as many addresses as there is room for") {
  const auto asked = *parse_dns_question(question());
  DnsAnswer answer{.code = DnsCode::none, .addresses = {}, .seconds = 60};
  answer.addresses.push_back({.six = false, .bytes = {0xcb, 0, 0x71, 7}});
  CHECK(dns_reply(asked, answer) ==
        header(0x8180, 1, 1) + kName + kIn + kHere + kIn + kMinute + "\0\4"s + kAddress);
  CHECK(dns_reply(asked, {.code = DnsCode::no_such_name, .addresses = {}, .seconds = 0}) ==
        header(0x8183, 1, 0) + kName + kIn);
  std::string longest;
  for (const int size : {63, 63, 63, 61}) {
    longest += static_cast<char>(size) + std::string(static_cast<std::size_t>(size), 'a');
  }
  const auto wide = parse_dns_question(header(0x0100, 1, 0) + longest + "\0\0\x1c\0\1"s);
  REQUIRE(wide);
  CHECK(wide->name.size() == 253);
  answer.addresses.assign(16, {.six = true, .bytes = {0x20, 1}});
  const std::string reply = dns_reply(*wide, answer);
  CHECK(reply.size() <= kDnsDatagram);
  CHECK(reply[7] == 8);
}
