// `brood run` with folders of the host, tmpfs and a read-only root.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "base/file.h"
#include "rootfs/id_map.h"
#include "tests/cmd/program.h"
#include "tests/support/agent_fixture.h"
#include "tests/support/raw_client.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using namespace tests;
using Catch::Contains;
namespace fs = std::filesystem;

constexpr uid_t kClient = 12345;
constexpr uid_t kOther = 12346;

Ran run(const AgentFixture& agent, std::vector<std::string> flags, const std::string& script) {
  flags.insert(flags.begin(), {"--socket", agent.socket(), "run"});
  flags.insert(flags.end(), {"--", "/bin/sh", "-c", script});
  return run_brood(flags);
}

// A folder of the test's, with this owner.
std::string folder(const AgentFixture& agent, const std::string& name, uid_t owner = 0) {
  const std::string path = agent.scratch() + "/" + name;
  REQUIRE(::mkdir(path.c_str(), 0755) == 0);
  REQUIRE(::chown(path.c_str(), owner, owner) == 0);
  return path;
}

void write_file(const std::string& path, const std::string& text, uid_t owner, mode_t mode) {
  const auto file = base::open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  REQUIRE(file);
  REQUIRE(base::write_all(file->get(), text));
  REQUIRE(::fchown(file->get(), owner, owner) == 0);
  REQUIRE(::fchmod(file->get(), mode) == 0);
}

// Of the file system that scratch folders are on. Before anything is made.
void need_mapped_ids() {
  need_root();
  const ScratchDirectory scratch;
  if (const auto able = rootfs::can_map_ids(scratch.fd()); !able) {
    skip_because("folders in " + scratch.path() +
                 " cannot be shown with other owners: " + able.error().message());
  }
}

struct stat about(const std::string& path) {
  struct stat seen {};
  REQUIRE(::lstat(path.c_str(), &seen) == 0);
  return seen;
}

// The same, asked for by somebody who is not root.
Ran run_as_client(const AgentFixture& agent, const std::vector<std::string>& flags,
                  const std::string& script) {
  REQUIRE(::chmod(agent.scratch().c_str(), 0755) == 0);
  REQUIRE(::chmod(agent.socket().c_str(), 0666) == 0);
  const std::string out = agent.scratch() + "/as-client";
  std::string line = "setpriv --reuid 12345 --regid 12345 --clear-groups " + brood_program() +
                     " --socket " + agent.socket() + " run";
  for (const std::string& flag : flags) {
    line += " '" + flag + "'";
  }
  line += " -- /bin/sh -c '" + script + "' >" + out + " 2>" + out + ".err </dev/null";
  const int status = std::system(line.c_str());  // NOLINT(concurrency-mt-unsafe)
  return {WEXITSTATUS(status), base::read_file(out).value(), base::read_file(out + ".err").value()};
}

}  // namespace

TEST_CASE("a tmpfs is writable, of its size and mode, and holds no program unless it is to") {
  AgentFixture agent;
  const Ran plain = run(agent, {"--tmpfs", "/scratch:1m"},
                        "stat -c %a /scratch; grep ' /scratch ' /proc/self/mountinfo; "
                        "cp /bin/true /scratch/p && /scratch/p; echo $?; "
                        "head -c 4000000 /dev/zero >/scratch/large; stat -c %s /scratch/large");
  CHECK_THAT(plain.out, Catch::StartsWith("1777\n") && Contains("nosuid,nodev,noexec") &&
                            Contains("size=1024k"));
  CHECK_THAT(plain.out, Contains("\n126\n"));
  CHECK_THAT(plain.out, !Contains("\n4000000\n"));
  const Ran exec =
      run(agent, {"--tmpfs", "/deep/er/scratch:size=2m,mode=0755,exec", "-u", "0:0"},
          "stat -c '%a %u' /deep/er/scratch; cp /bin/true /deep/er/scratch/p && "
          "/deep/er/scratch/p && echo ran; grep -c scratch.*noexec /proc/self/mountinfo");
  CHECK(exec.out == "755 0\nran\n0\n");
  CHECK(run(agent, {"--tmpfs", "/tmp/in:1m"}, "echo x >/tmp/in/x && cat /tmp/in/x").out == "x\n");
  CHECK(run(agent, {}, "ls -d /scratch").exit != 0);
}

TEST_CASE("a read-only root leaves /tmp and /dev/shm, and what is mounted to be written") {
  AgentFixture agent;
  const Ran ran = run(agent, {"--read-only", "--tmpfs", "/scratch", "-u", "0:0"},
                      "for f in /x /etc/x /usr/x /tmp/x /dev/shm/x /scratch/x; do "
                      "touch $f 2>/dev/null && echo $f; done; mount -o remount,rw / 2>&1");
  CHECK_THAT(ran.out, Catch::StartsWith("/tmp/x\n/dev/shm/x\n/scratch/x\n"));
  CHECK(ran.exit != 0);
}

TEST_CASE("a bound folder is the client's: what it owns is the command's, the rest is nobody's") {
  need_mapped_ids();
  AgentFixture agent;
  const std::string data = folder(agent, "data", kClient);
  write_file(data + "/mine", "mine\n", kClient, 0600);
  write_file(data + "/others", "others\n", kOther, 0600);
  write_file(data + "/roots", "roots\n", 0, 0600);
  write_file(data + "/all", "all\n", kOther, 0666);
  const Ran ran =
      run_as_client(agent, {"-v", data + ":/data"},
                    "cd /data; cat mine others roots all; echo more >>all; echo new >new; "
                    "stat -c \"%n %u\" mine others roots new");
  INFO(ran.err);
  CHECK_THAT(ran.out,
             Catch::StartsWith("mine\nall\nmine 1000\nothers 65534\nroots 65534\nnew 1000\n"));
  CHECK(about(data + "/new").st_uid == kClient);
  CHECK(about(data + "/new").st_gid == kClient);
  // Root inside is still the client, and no more.
  const Ran root = run_as_client(agent, {"-u", "0:0", "-v", data + ":/data"},
                                 "cd /data; cat mine others roots; chown 0:0 others; rm -f new; "
                                 "echo made >made; stat -c %u mine made");
  CHECK(root.out == "mine\n0\n0\n");
  CHECK(about(data + "/made").st_uid == kClient);
  CHECK(about(data + "/others").st_uid == kOther);
  CHECK_FALSE(fs::exists(data + "/new"));
}

TEST_CASE("a folder that is bound read-only is, and so is a file") {
  need_mapped_ids();
  AgentFixture agent;
  const std::string data = folder(agent, "data");
  write_file(data + "/file", "text\n", 0, 0644);
  const Ran ran =
      run(agent, {"--bind", data + ":/data:ro", "-v", data + "/file:/etc/one:ro"},
          "cat /data/file /etc/one; touch /data/x || echo no; echo y >/etc/one || echo no");
  CHECK(ran.out == "text\ntext\nno\nno\n");
  CHECK(run(agent, {"-v", data + "/file:/new/file"}, "echo more >>/new/file").exit == 0);
  CHECK(base::read_file(data + "/file").value() == "text\nmore\n");
  CHECK(run(agent, {"-v", data + "/file:/etc"}, "true").exit == 125);
  CHECK(run(agent, {"-v", data + ":/etc/passwd"}, "true").exit == 125);
  CHECK_THAT(run(agent, {"-v", "/nowhere/at/all:/data"}, "true").err, Contains("/nowhere/at/all"));
  CHECK(run(agent, {"-v", data + ":/proc/x"}, "true").exit == 125);
  CHECK(run(agent, {"-v", data + ":/data", "--tmpfs", "/data"}, "true").exit == 125);
}

TEST_CASE("what a command of root's leaves in a bound folder runs as nobody but who runs it") {
  need_mapped_ids();
  AgentFixture agent;
  const std::string data = folder(agent, "data");
  fs::copy_file("/bin/true", data + "/was");
  REQUIRE(::chmod((data + "/was").c_str(), 04755) == 0);
  // By each way that a shell and perl have to it; as root inside, which owns what it makes.
  const Ran ran = run(agent, {"-u", "0:0", "-v", data + ":/data"},
                      "cd /data; cp /bin/true a; chmod 4755 a; chmod 2755 a; chmod u+s a; "
                      "install -m 6755 /bin/true b; mkdir d; cp -p was c; "
                      "perl -e 'sysopen(F, q(e), 0101, 06755); syscall(437, -100, q(f), 0, 0); "
                      "chmod 04755, q(a); mkdir q(g), 06755; chmod 02755, q(d)' ; grep was "
                      "/proc/self/mountinfo; grep ' /data ' /proc/self/mountinfo");
  INFO(ran.err);
  CHECK_THAT(ran.out, Contains("nosuid,nodev"));
  CHECK(about(data + "/a").st_size > 0);
  for (const auto& entry : fs::directory_iterator(data)) {
    CAPTURE(entry.path().string());
    const bool before = entry.path().filename() == "was";
    CHECK(((about(entry.path()).st_mode & (S_ISUID | S_ISGID)) != 0) == before);
  }
}

TEST_CASE("a link in a bound folder leads to no place outside of the sandbox") {
  AgentFixture agent;
  const std::string data = folder(agent, "data");
  const std::string mark = agent.scratch() + "/mark";
  fs::create_directory_symlink("../../../../../../.." + agent.scratch(), data + "/up");
  fs::create_directory_symlink(agent.scratch(), data + "/absolute");
  fs::create_directory_symlink("/proc/self/root", data + "/magic");
  fs::create_directory_symlink("/proc/self/fd", data + "/descriptors");
  fs::create_directory_symlink("/proc", data + "/proc");
  for (const std::string link : {"up", "absolute", "magic", "magic/proc/1/root"}) {
    CAPTURE(link);
    (void)run(agent, {"-v", data + ":/data", "--tmpfs", "/data/" + link + "/mark/x"}, "true");
    CHECK_FALSE(fs::exists(mark));
  }
  CHECK(run(agent, {"-v", data + ":/data", "--tmpfs", "/data/magic/tmp/x"}, "true").exit == 125);
  CHECK(run(agent, {"-v", data + ":/data", "--tmpfs", "/data/descriptors/0"}, "true").exit == 125);
  CHECK(run(agent, {"-v", data + ":/data", "--tmpfs", "/data/proc/sys"}, "true").exit == 125);
  CHECK(run(agent, {"-v", data + ":/data"}, "ls /data/up/ /data/absolute/").exit != 0);
}

TEST_CASE("a folder of another mount namespace is refused with a sentence") {
  AgentFixture agent;
  const std::string out = agent.scratch() + "/out";
  const std::string line = "unshare -m sh -c 'mount -t tmpfs none /mnt && " + brood_program() +
                           " --socket " + agent.socket() + " run -v /mnt:/data -- true' >" + out +
                           " 2>&1";
  CHECK(WEXITSTATUS(std::system(line.c_str())) == 125);  // NOLINT(concurrency-mt-unsafe)
  CHECK_THAT(base::read_file(out).value(),
             Contains("mount namespace that the agent was started in"));
}

TEST_CASE("what is mounted below a folder comes along, with the folder's flags") {
  AgentFixture agent;
  const std::string data = folder(agent, "data");
  REQUIRE(::mkdir((data + "/below").c_str(), 0755) == 0);
  REQUIRE(::mount("tmpfs", (data + "/below").c_str(), "tmpfs", 0, "size=64k") == 0);
  write_file(data + "/below/file", "below\n", 0, 0644);
  const Ran ran = run(agent, {"-v", data + ":/data:ro"},
                      "cat /data/below/file; touch /data/below/x || echo no; "
                      "grep ' /data/below ' /proc/self/mountinfo");
  CHECK(::umount((data + "/below").c_str()) == 0);
  CHECK_THAT(ran.out, Catch::StartsWith("below\nno\n") && Contains("ro,nosuid,nodev"));
}

TEST_CASE("descriptors are announced, counted, and of nothing but a command") {
  AgentFixture agent;
  const auto status_of = [&](const std::string& target, const std::string& headers) {
    RawClient client(agent.socket());
    return client.ask("POST " + target + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n").status;
  };
  const std::string rest = "Content-Length: 9\r\nExpect: 100-continue\r\n";
  CHECK(status_of("/commands", "Brood-Descriptors: 17\r\n" + rest) == 400);
  CHECK(status_of("/commands", "Brood-Descriptors: 0\r\n" + rest) == 400);
  CHECK(status_of("/commands", "Brood-Descriptors: x\r\n" + rest) == 400);
  CHECK(status_of("/commands", "Brood-Descriptors: 1\r\nContent-Length: 9\r\n") == 400);
  CHECK(status_of("/functions/f/invocations", "Brood-Descriptors: 1\r\n" + rest) == 400);
  const std::string body = R"({"arguments": ["true"], "binds": [{"target": "/data"}]})";
  RawClient none(agent.socket());
  none.send("POST /commands HTTP/1.1\r\nHost: x\r\nBrood-Descriptors: 1\r\nContent-Length: " +
            std::to_string(body.size()) + "\r\nExpect: 100-continue\r\n\r\n");
  CHECK_THAT(none.read_some(), Catch::StartsWith("HTTP/1.1 100"));
  CHECK_THAT(none.ask(body).body, Contains("not as many descriptors"));
  CHECK_THAT(agent.client().ask("POST", "/commands", body).body,
             Contains("no descriptor for /data"));
  CHECK(run(agent, {}, "echo fine").out == "fine\n");
}
