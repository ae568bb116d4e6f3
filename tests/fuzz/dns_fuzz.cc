// What a sandbox asks of brood-names, and what a resolver answers it. Aborts when a promise of
// cmd/dns_message.h does not hold.
#include "cmd/dns_message.h"

#include <string>

#include "netns/names.h"
#include "tests/fuzz/promise.h"

using fuzz::require;

namespace {

void ask(std::string_view bytes) {
  const auto question = cmd::parse_dns_question(bytes);
  if (!question) {
    return;
  }
  require(question->name.empty() || netns::is_name(question->name));
  cmd::DnsAnswer answer{.code = cmd::DnsCode::none, .addresses = {}, .seconds = 60};
  answer.addresses.assign(cmd::kMostDnsAddresses, {.six = bytes.size() % 2 == 0, .bytes = {}});
  const std::string reply = cmd::dns_reply(*question, answer);
  require(reply.size() <= cmd::kDnsDatagram);
  const auto again =
      cmd::parse_dns_question(question->name.empty() ? "" : cmd::dns_query(7, question->name, 1));
  require(question->name.empty() || (again && again->name == question->name && again->id == 7));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = fuzz::text_of(data, size);
  const unsigned kind = fuzz::take_byte(bytes);
  if (kind == 0) {
    ask(bytes);
    return 0;
  }
  const std::uint16_t type = kind == 1 ? cmd::kDnsA : cmd::kDnsAaaa;
  if (const auto answer = cmd::parse_dns_answer(bytes, 0x1234, "example.com", type)) {
    require(answer->addresses.size() <= cmd::kMostDnsAddresses);
    require(answer->addresses.empty() || answer->code == cmd::DnsCode::none);
    require(answer->seconds <= 0x7fffffff);
    for (const auto& address : answer->addresses) {
      require(address.six == (type == cmd::kDnsAaaa));
    }
  }
  return 0;
}
