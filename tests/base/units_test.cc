#include "base/units.h"

#include <catch2/catch.hpp>
#include <csignal>

using namespace std::chrono_literals;

TEST_CASE("sizes are read as docker and kubernetes write them") {
  CHECK(base::parse_bytes("128MiB").value() == 128ULL << 20);
  CHECK(base::parse_bytes("64m").value() == 64ULL << 20);
  CHECK(base::parse_bytes("1G").value() == 1ULL << 30);
  CHECK(base::parse_bytes("1.5k").value() == 1536);
  CHECK(base::parse_bytes("5KB").value() == 5000);
  CHECK(base::parse_bytes("0").value() == 0);
}

TEST_CASE("what is not a size is refused by name") {
  for (const char* text :
       {"", "MiB", "-1", "1.0001k", "1e9", "12 MiB", "1.2.3k", "99999999999TiB", "0x10"}) {
    INFO(text);
    REQUIRE_FALSE(base::parse_bytes(text));
    CHECK(base::parse_bytes(text).error().message().find(text) != std::string::npos);
  }
}

TEST_CASE("a size prints as it can be read back") {
  for (const std::uint64_t bytes :
       {0ULL, 1ULL, 1023ULL, 1024ULL, 128ULL << 20, 3ULL << 30, (1ULL << 30) + 1}) {
    CHECK(base::parse_bytes(base::format_bytes(bytes)).value() == bytes);
  }
  CHECK(base::format_bytes(128ULL << 20) == "128MiB");
}

TEST_CASE("durations are read in the units people use") {
  CHECK(base::parse_duration("5s").value() == 5s);
  CHECK(base::parse_duration("250ms").value() == 250ms);
  CHECK(base::parse_duration("2m").value() == 2min);
  CHECK(base::parse_duration("1.5s").value() == 1500ms);
  CHECK(base::parse_duration("4.004s").value() == 4004ms);
  CHECK(base::parse_duration("3").value() == 3s);
  for (const char* text : {"", "s", "-5s", "25h", "0.0001s", "5 s", "5d"}) {
    INFO(text);
    CHECK_FALSE(base::parse_duration(text));
  }
}

TEST_CASE("cpu shares are read as fractions or as thousandths") {
  CHECK(base::parse_cpu("0.5").value() == 500);
  CHECK(base::parse_cpu("500m").value() == 500);
  CHECK(base::parse_cpu("2").value() == 2000);
  CHECK(base::format_cpu(500) == "0.5");
  CHECK(base::format_cpu(2000) == "2");
  for (std::uint32_t milli = 1; milli <= 20'000; ++milli) {
    CHECK(base::parse_cpu(base::format_cpu(milli)) == milli);
  }
  for (const char* text : {"", "0", "-1", "2000", "0.0001", "half"}) {
    INFO(text);
    CHECK_FALSE(base::parse_cpu(text));
  }
}

TEST_CASE("signals are read by number and by name") {
  CHECK(base::parse_signal("9").value() == 9);
  CHECK(base::parse_signal("KILL").value() == 9);
  CHECK(base::parse_signal("SIGTERM").value() == 15);
  CHECK(base::parse_signal("SIGRTMIN+3").value() == SIGRTMIN + 3);
  CHECK(base::parse_signal("RTMIN").value() == SIGRTMIN);
  for (const char* wrong :
       {"", "0", "65", "-1", "9x", "term", "SIG", "RTMIN+31", "RTMIN-1", "RTMIN+", "SIG9"}) {
    CAPTURE(wrong);
    CHECK(!base::parse_signal(wrong));
  }
}

TEST_CASE("times come back as they were printed") {
  for (const std::int64_t ms : {std::int64_t{0}, std::int64_t{1'714'564'800'250}}) {
    CHECK(base::parse_time(base::format_time(ms)).value() == ms);
  }
  CHECK(base::format_time(1'714'564'800'250) == "2024-05-01T12:00:00.250Z");
  for (const char* wrong : {"", "2024-05-01", "2024-05-01T12:00:00Z", "2024-05-01T12:00:00.25Z",
                            "2024-05-01T12:00:00.250", "2024-05-01T12:00:00.250Zx"}) {
    CAPTURE(wrong);
    CHECK(!base::parse_time(wrong));
  }
}
