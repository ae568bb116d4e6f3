#include "base/toml_text.h"

#include <catch2/catch.hpp>
#include <string>

namespace {

std::string stray_in(std::string_view text) {
  const auto place = base::first_stray_letter(text);
  return place ? std::to_string(place->line) + ":" + std::to_string(place->column) : "none";
}

}  // namespace

TEST_CASE("letters of all languages are let through in quotes and comments") {
  for (const char* text :
       {"", "a = 1\n",
        "\xef\xbb\xbf"
        "a = 1\n",
        "# \xcf\x96\na = 'x'", "a = '\xcf\x96'", "a = \"\xcf\x96\"", "\"\xcf\x96\" = 1",
        "a = \"\\\"\xcf\x96\"", "a = \"\"\"\n\xcf\x96 \"\" \xcf\x96\n\"\"\"",
        "a = '''\n\xcf\x96\\'''", "a = \"\"\"\\\"\"\"\xcf\x96\"\"\"\"\"", "a = '' # \xcf\x96",
        "a = '\xcf\x96", "a = \"\xcf\x96\\"}) {
    INFO(text);
    CHECK(stray_in(text) == "none");
  }
}

TEST_CASE("a letter that is not ASCII outside of quotes is found with its place") {
  CHECK(stray_in("\xcf\x96 = 1") == "1:1");
  CHECK(stray_in("a = 1\n  b\xcf\x96 = 2\n") == "2:4");
  CHECK(stray_in("a = 1g\xc8\x8a\n") == "1:7");
  CHECK(stray_in("a = 'x' \xc2\xa0\n") == "1:9");
  CHECK(stray_in("a = \"\" \xcf\x96 \"\"") == "1:8");
  CHECK(stray_in("a = 'x\n\xcf\x96'") == "2:1");
  CHECK(stray_in("a = '\\'\xcf\x96") == "1:8");
  CHECK(stray_in("a = \"\"\"x\"\"\"\"\"\xcf\x96") == "1:14");
  CHECK(stray_in("a = 1 \xef\xbb\xbf") == "1:7");
}

TEST_CASE("what is not ASCII is spelled so that no two texts become one") {
  CHECK(base::in_ascii("a = 1\n") == "a = 1\n");
  CHECK(base::in_ascii("a = '\xc3\xa9'") == "a = '~c3~a9'");
}
