// Messages of DNS (RFC 1035), as far as brood-names has to do with them: a question for addresses,
// and what answers it. Pure; every byte of both is hostile. Nothing that came in is handed on: what
// goes out is written anew.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cmd {

constexpr std::size_t kDnsDatagram = 512;  // without EDNS

enum class DnsCode : std::uint8_t { none = 0, server_failure = 2, no_such_name = 3 };
constexpr std::uint16_t kDnsA = 1;
constexpr std::uint16_t kDnsAaaa = 28;

struct DnsQuestion {
  std::uint16_t id = 0;
  bool recursion = false;
  std::string asked;  // name, type and class, as they came
  std::string name;   // in lower case; empty: none that a list could have
  std::uint16_t type = 0;
  bool internet = false;  // class IN
};
// Nothing: it is no question, or not one alone, and is not answered.
std::optional<DnsQuestion> parse_dns_question(std::string_view bytes);

// `name` is one (netns::is_name).
std::string dns_query(std::uint16_t id, std::string_view name, std::uint16_t type);

struct DnsAddress {
  bool six = false;
  std::array<std::uint8_t, 16> bytes{};  // network order; the first 4

  bool operator==(const DnsAddress&) const = default;
};
struct DnsAnswer {
  DnsCode code = DnsCode::server_failure;
  std::vector<DnsAddress> addresses;  // of the type that was asked for
  std::uint32_t seconds = 0;          // to live: the least of all that led there
};
constexpr std::size_t kMostDnsRecords = 64;    // that are looked at
constexpr std::size_t kMostDnsAliases = 8;     // that are followed
constexpr std::size_t kMostDnsAddresses = 16;  // more are left out
// Nothing: it answers something else. What cannot be read is a failure of the server's.
std::optional<DnsAnswer> parse_dns_answer(std::string_view bytes, std::uint16_t id,
                                          std::string_view name, std::uint16_t type);

// In at most kDnsDatagram bytes: addresses for which there is no room are left out. Aliases are not
// shown: the addresses are those of the name that was asked for.
std::string dns_reply(const DnsQuestion& question, const DnsAnswer& answer);

}  // namespace cmd
