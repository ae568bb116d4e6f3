#include "rootfs/image_user.h"

#include <catch2/catch.hpp>

using Catch::Contains;
using rootfs::ImageUser;
using rootfs::resolve_user;

namespace {

constexpr char kPasswd[] =
    "root:x:0:0:root:/root:/bin/sh\n"
    "broken\n"
    "web:x:33:34:Web:/var/www:/bin/sh\n"
    "huge:x:70000:1::/:\n"
    "odd:x:nine:9::/:\n"
    "large:x:9:99999::/:";
constexpr char kGroup[] = "root:x:0:\nstaff:x:50:web\nfar:x:70000:\n";

std::string refusal(const char* user) {
  const auto found = resolve_user(user, kPasswd, kGroup);
  REQUIRE(!found);
  return found.error().message();
}

}  // namespace

TEST_CASE("a user is a name or a number, alone or with a group") {
  CHECK(*resolve_user("web", kPasswd, kGroup) == ImageUser{33, 34});
  CHECK(*resolve_user("33", kPasswd, kGroup) == ImageUser{33, 34});
  CHECK(*resolve_user("5", kPasswd, kGroup) == ImageUser{5, 0});
  CHECK(*resolve_user("5:6", kPasswd, kGroup) == ImageUser{5, 6});
  CHECK(*resolve_user("web:staff", kPasswd, kGroup) == ImageUser{33, 50});
  CHECK(*resolve_user("0:staff", kPasswd, kGroup) == ImageUser{0, 50});
  CHECK(*resolve_user("65535:65535", "", "") == ImageUser{65535, 65535});
}

TEST_CASE("who is not there, or has a number that no sandbox has, is refused") {
  CHECK_THAT(refusal("nosuch"), Contains("no user 'nosuch'"));
  CHECK_THAT(refusal("web:nosuch"), Contains("no group 'nosuch'"));
  CHECK_THAT(refusal("70000"), Contains("over 65535"));
  CHECK_THAT(refusal("huge"), Contains("over 65535"));
  CHECK_THAT(refusal("5:far"), Contains("over 65535"));
  CHECK_THAT(refusal("large"), Contains("over 65535"));
  CHECK_THAT(refusal("odd"), Contains("no user 'odd'"));
  CHECK_THAT(refusal("-1"), Contains("no user"));
  CHECK_THAT(refusal("web:"), Contains("no group"));
  CHECK_THAT(refusal(":5"), Contains("no user"));
  CHECK_THAT(refusal("4294967296"), Contains("no user"));
}
