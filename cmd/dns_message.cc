#include "cmd/dns_message.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "netns/names.h"

namespace cmd {
namespace {

constexpr std::size_t kHeader = 12;
constexpr std::size_t kMostLabels = 128;
constexpr std::size_t kMostNameBytes = 255;  // with the lengths, and the 0 at the end
constexpr std::uint16_t kInternet = 1;
constexpr std::uint16_t kAlias = 5;
constexpr std::uint16_t kOptions = 41;
constexpr std::uint16_t kTakes = 1232;  // a datagram of ours: what no path takes apart
constexpr std::uint16_t kResponse = 0x8000;
constexpr std::uint16_t kOperation = 0x7800;
constexpr std::uint16_t kRecursion = 0x0100;
constexpr std::uint16_t kRecursionThere = 0x0080;
constexpr std::uint16_t kCode = 0x000f;

char lower(char one) {
  return one >= 'A' && one <= 'Z' ? static_cast<char>(one - 'A' + 'a') : one;
}

// Reads forward, and says once and for all when there was not enough.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  bool good() const { return good_; }
  std::size_t at() const { return at_; }
  std::uint16_t take16() {
    const std::string_view two = take(2);
    return good_ ? static_cast<std::uint16_t>(byte(two[0]) << 8 | byte(two[1])) : std::uint16_t{0};
  }
  std::uint32_t take32() {
    const std::uint32_t high = take16();
    return high << 16 | take16();
  }
  std::string_view take(std::size_t size) {
    if (!good_ || size > bytes_.size() - at_) {
      good_ = false;
      return {};
    }
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }

  // A name that nobody could have in a list (other bytes than is_name has) is empty, and so is the
  // root. A pointer leads to before where the name, or what pointed, began, so that there is an
  // end.
  std::string take_name() {
    std::string name;
    bool plain = true;
    std::size_t length = 1;
    std::size_t before = at_;
    std::optional<std::size_t> back;
    for (std::size_t labels = 0; labels < kMostLabels; ++labels) {
      const std::string_view first = take(1);
      if (!good_) {
        return {};
      }
      const unsigned size = byte(first[0]);
      if (size == 0) {
        at_ = back.value_or(at_);
        return plain && netns::is_name(name) ? name : std::string();
      }
      if (size >= 0xc0) {
        const std::string_view rest = take(1);
        const std::size_t to = good_ ? (size & 0x3f) << 8 | byte(rest[0]) : bytes_.size();
        if (!good_ || to >= before || to < kHeader) {
          return fail();
        }
        back = back.value_or(at_);
        at_ = before = to;
        continue;
      }
      length += size + 1;
      const std::string_view label = size > 63 || length > kMostNameBytes ? fail() : take(size);
      if (!good_) {
        return {};
      }
      plain = plain && label.find('.') == std::string_view::npos;
      name += name.empty() ? "" : ".";
      std::transform(label.begin(), label.end(), std::back_inserter(name), lower);
    }
    return fail();
  }

 private:
  static unsigned byte(char one) { return static_cast<unsigned char>(one); }
  std::string fail() {
    good_ = false;
    return {};
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  bool good_ = true;
};

struct Header {
  std::uint16_t id = 0, flags = 0, questions = 0, answers = 0;
};

Header take_header(Reader& reader) {
  Header header;
  header.id = reader.take16();
  header.flags = reader.take16();
  header.questions = reader.take16();
  header.answers = reader.take16();
  (void)reader.take32();  // the other two counts
  return header;
}

void put16(std::string& bytes, unsigned value) {
  bytes += static_cast<char>(value >> 8);
  bytes += static_cast<char>(value & 0xff);
}

void put32(std::string& bytes, std::uint32_t value) {
  put16(bytes, value >> 16);
  put16(bytes, value & 0xffff);
}

void put_name(std::string& bytes, std::string_view name) {
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    bytes += static_cast<char>(label.size());
    bytes += label;
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  bytes += '\0';
}

struct Found {
  std::vector<DnsAddress> addresses;
  std::string alias;
  std::uint32_t seconds = 0x7fffffff;
};
using Records = std::map<std::string, Found, std::less<>>;

// RFC 2181: one with the top bit set is none.
std::uint32_t time_to_live(std::uint32_t seconds) {
  return seconds > 0x7fffffff ? 0 : seconds;
}

void take_record(Reader& reader, std::uint16_t wanted, Records& into) {
  const std::string owner = reader.take_name();
  const std::uint16_t type = reader.take16();
  const std::uint16_t kind = reader.take16();
  const std::uint32_t seconds = time_to_live(reader.take32());
  const std::uint16_t size = reader.take16();
  if (type == kAlias && kind == kInternet) {
    const std::size_t end = reader.at() + size;
    const std::string alias = reader.take_name();
    if (reader.at() != end) {
      (void)reader.take(std::string_view::npos);  // not of the size it says: none of it is read
      return;
    }
    if (!owner.empty()) {
      into[owner].alias = alias;
      into[owner].seconds = std::min(into[owner].seconds, seconds);
    }
    return;
  }
  const std::string_view data = reader.take(size);
  const std::size_t expected = wanted == kDnsA ? 4 : 16;
  if (!reader.good() || type != wanted || kind != kInternet || owner.empty() || size != expected) {
    return;
  }
  Found& found = into[owner];
  found.seconds = std::min(found.seconds, seconds);
  if (found.addresses.size() < kMostDnsAddresses) {
    DnsAddress address{.six = wanted == kDnsAaaa, .bytes = {}};
    std::memcpy(address.bytes.data(), data.data(), size);
    found.addresses.push_back(address);
  }
}

// From the name that was asked for, over what it is another name of.
void follow(const Records& records, std::string_view name, DnsAnswer& answer) {
  std::uint32_t seconds = 0x7fffffff;
  for (std::size_t i = 0; i <= kMostDnsAliases; ++i) {
    const auto found = records.find(name);
    if (found == records.end()) {
      return;
    }
    seconds = std::min(seconds, found->second.seconds);
    if (!found->second.addresses.empty()) {
      answer.addresses = found->second.addresses;
      answer.seconds = seconds;
      return;
    }
    name = found->second.alias;
  }
}

}  // namespace

std::optional<DnsQuestion> parse_dns_question(std::string_view bytes) {
  Reader reader(bytes);
  const Header header = take_header(reader);
  if (!reader.good() || (header.flags & (kResponse | kOperation)) != 0 || header.questions != 1 ||
      header.answers != 0) {
    return std::nullopt;
  }
  DnsQuestion question;
  question.id = header.id;
  question.recursion = (header.flags & kRecursion) != 0;
  question.name = reader.take_name();
  question.type = reader.take16();
  question.internet = reader.take16() == kInternet;
  if (!reader.good()) {
    return std::nullopt;
  }
  question.asked = bytes.substr(kHeader, reader.at() - kHeader);
  return question;
}

std::string dns_query(std::uint16_t id, std::string_view name, std::uint16_t type) {
  std::string bytes;
  put16(bytes, id);
  put16(bytes, kRecursion);
  put16(bytes, 1);
  put32(bytes, 0);
  put16(bytes, 1);
  put_name(bytes, name);
  put16(bytes, type);
  put16(bytes, kInternet);
  bytes += '\0';  // the root: no name
  put16(bytes, kOptions);
  put16(bytes, kTakes);
  put32(bytes, 0);
  put16(bytes, 0);
  return bytes;
}

std::optional<DnsAnswer> parse_dns_answer(std::string_view bytes, std::uint16_t id,
                                          std::string_view name, std::uint16_t type) {
  Reader reader(bytes);
  const Header header = take_header(reader);
  if (!reader.good() || header.id != id || (header.flags & (kResponse | kOperation)) != kResponse ||
      header.questions != 1) {
    return std::nullopt;
  }
  const std::string asked = reader.take_name();
  const bool same = asked == name && reader.take16() == type && reader.take16() == kInternet;
  if (!reader.good() || !same) {
    return std::nullopt;
  }
  DnsAnswer answer;
  const unsigned code = header.flags & kCode;
  if (code != 0) {
    answer.code = code == static_cast<unsigned>(DnsCode::no_such_name) ? DnsCode::no_such_name
                                                                       : DnsCode::server_failure;
    return answer;
  }
  if (header.answers > kMostDnsRecords) {
    return answer;
  }
  Records records;
  for (unsigned i = 0; i < header.answers; ++i) {
    take_record(reader, type, records);
  }
  if (reader.good()) {
    answer.code = DnsCode::none;
    follow(records, name, answer);
  }
  return answer;
}

std::string dns_reply(const DnsQuestion& question, const DnsAnswer& answer) {
  const std::size_t size = answer.addresses.empty() || !answer.addresses.front().six ? 4 : 16;
  const std::size_t each = 12 + size;
  const std::size_t room = kDnsDatagram - kHeader - question.asked.size();
  const std::size_t count = std::min(answer.addresses.size(), room / each);
  std::string bytes;
  put16(bytes, question.id);
  put16(bytes, kResponse | kRecursionThere | (question.recursion ? kRecursion : 0U) |
                   static_cast<unsigned>(answer.code));
  put16(bytes, 1);
  put16(bytes, static_cast<unsigned>(count));
  put32(bytes, 0);
  bytes += question.asked;
  for (std::size_t i = 0; i < count; ++i) {
    put16(bytes, 0xc000 | kHeader);  // the name: where the question has it
    put16(bytes, question.type);
    put16(bytes, kInternet);
    put32(bytes, answer.seconds);
    put16(bytes, static_cast<unsigned>(size));
    bytes.append(reinterpret_cast<const char*>(answer.addresses[i].bytes.data()), size);
  }
  return bytes;
}

}  // namespace cmd
