// Images of other systems' formats, made by umoci and skopeo, brought in for real.
#include "rootfs/image_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/file.h"
#include "rootfs/confined_tool.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

namespace fs = std::filesystem;
using Catch::Contains;
using rootfs::ImportRequest;
using rootfs::SourceKind;

// Two layers: the second hides a folder of the first, and one file, and replaces another.
constexpr char kMakeImage[] = R"(
  mkdir -p a/bin a/etc/old a/data b/etc
  echo first > a/bin/tool; chmod 4755 a/bin/tool; ln a/bin/tool a/bin/same; ln -s tool a/bin/link
  echo 1 > a/etc/old/one; echo gone > a/etc/gone; echo before > a/etc/kept
  chown 33:44 a/data; chmod 0750 a/data; mkfifo a/data/pipe; mknod a/data/disk b 7 0
  mkdir -p a/run a/tmp a/dev; echo x > a/run/pid; echo x > a/tmp/left; mknod a/dev/null c 1 3
  truncate -s 64M a/data/sparse
  echo after > b/etc/kept
  umoci init --layout layout; umoci new --image layout:one
  umoci insert --image layout:one a /
  umoci insert --image layout:one b /
  umoci insert --image layout:one --whiteout /etc/old
  umoci insert --image layout:one --whiteout /etc/gone
  umoci config --image layout:one --config.entrypoint /bin/tool --config.env X=1 --config.user 5
)";

class Store {
 public:
  Store() {
    tests::need_root();
    for (const char* program : {"/usr/bin/skopeo", "/usr/bin/umoci"}) {
      if (::access(program, X_OK) != 0) {
        tests::skip_because(std::string("there is no ") + program);
      }
    }
    scratch_.emplace();
  }

  std::string path(const std::string& name) const { return scratch_->path() + "/" + name; }
  std::string images() const { return path("images"); }
  std::string tree(const std::string& name) const { return images() + "/" + name + "/rootfs"; }

  void shell(const std::string& script) const {
    const std::string command =
        "cd " + scratch_->path() + " && exec >/dev/null 2>&1 && set -e\n" + script;
    REQUIRE(std::system(command.c_str()) == 0);  // NOLINT(concurrency-mt-unsafe)
  }

  ImportRequest request(const std::string& source, const std::string& name = "image") const {
    const auto kind = rootfs::source_kind(images(), path(source));
    INFO((kind ? "" : kind.error().message()));
    REQUIRE(kind);
    return {.images_dir = images(), .name = name, .source = path(source), .kind = *kind};
  }

  // All that is there, leftovers too.
  std::vector<std::string> there() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(images())) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  std::string refusal(const ImportRequest& request) const {
    const auto imported = rootfs::import_image(request);
    REQUIRE(!imported);
    return imported.error().message();
  }

 private:
  std::optional<tests::ScratchDirectory> scratch_;
};

std::string text(const std::string& path) {
  return base::read_file(path).value_or("not there");
}

struct stat about(const std::string& path) {
  struct stat found {};
  REQUIRE(::lstat(path.c_str(), &found) == 0);
  return found;
}

}  // namespace

TEST_CASE("the same image is the same in whatever format it comes") {
  const Store store;
  store.shell(std::string(kMakeImage) + R"(
    tar -C layout -cf oci.tar .
    skopeo copy oci:layout:one docker-archive:docker.tar:name:tag
  )");
  ImportRequest layout = store.request("layout", "layout");
  CHECK(layout.kind == SourceKind::oci_layout);
  layout.reference = "one";
  const ImportRequest archive = store.request("oci.tar", "oci");
  CHECK(archive.kind == SourceKind::oci_archive);
  const ImportRequest docker = store.request("docker.tar", "docker");
  CHECK(docker.kind == SourceKind::docker_archive);
  std::optional<std::string> digest;
  for (const ImportRequest& request : {layout, archive, docker}) {
    const auto manifest = rootfs::import_image(request);
    INFO((manifest ? "" : manifest.error().message()));
    REQUIRE(manifest);
    CHECK(manifest->config.entrypoint == std::vector<std::string>{"/bin/tool"});
    CHECK(manifest->config.user == "5");
    CHECK(digest.value_or(manifest->digest) == manifest->digest);
    digest = manifest->digest;
    const auto image = rootfs::open_image(store.images(), request.name);
    REQUIRE(image);
    CHECK(rootfs::verify(*image));
  }
  CHECK(store.there() == std::vector<std::string>{"docker", "layout", "oci"});
}

TEST_CASE("layers are put on each other, and owners, links and holes stay") {
  const Store store;
  store.shell(kMakeImage);
  ImportRequest request = store.request("layout");
  REQUIRE(rootfs::import_image(request));
  const std::string tree = store.tree("image");
  CHECK(text(tree + "/etc/kept") == "after\n");
  CHECK(!fs::exists(tree + "/etc/old"));
  CHECK(!fs::exists(tree + "/etc/gone"));
  CHECK(about(tree + "/bin/tool").st_ino == about(tree + "/bin/same").st_ino);
  CHECK(fs::read_symlink(tree + "/bin/link") == "tool");
  const struct stat data = about(tree + "/data");
  CHECK(data.st_uid == 33);
  CHECK(data.st_gid == 44);
  CHECK((data.st_mode & 07777) == 0750);
  CHECK(about(tree + "/data/sparse").st_size == 64 << 20);
}

TEST_CASE("what no sandbox may find in an image is not in it") {
  const Store store;
  store.shell(kMakeImage);
  REQUIRE(rootfs::import_image(store.request("layout")));
  const std::string tree = store.tree("image");
  CHECK((about(tree + "/bin/tool").st_mode & 07777) == 0755);  // it was set-id
  CHECK(!fs::exists(tree + "/data/pipe"));
  CHECK(!fs::exists(tree + "/data/disk"));
  for (const char* name : {"proc", "dev", "sys", "run", "tmp"}) {
    CHECK(fs::is_empty(tree + "/" + name));
  }
}

TEST_CASE("a tar of a root file system is an image, packed or not") {
  const Store store;
  store.shell(std::string(kMakeImage) + R"(
    tar -C a -cf plain.tar .
    tar -C a -cJf packed.tar.xz .
    tar -C a -czf packed.tar.gz .
  )");
  std::optional<std::string> digest;
  for (const char* name : {"plain.tar", "packed.tar.xz", "packed.tar.gz"}) {
    ImportRequest request = store.request(name, rootfs::name_of_source(name));
    CHECK(request.kind == SourceKind::tree_archive);
    request.replace = true;
    const auto manifest = rootfs::import_image(request);
    INFO((manifest ? "" : manifest.error().message()));
    REQUIRE(manifest);
    CHECK(digest.value_or(manifest->digest) == manifest->digest);
    digest = manifest->digest;
  }
}

TEST_CASE("an archive's entries cannot leave the image") {
  const Store store;
  store.shell(R"(
    mkdir out; echo untouched > out/canary
    python3 - <<'END'
import io, os, tarfile
here = os.getcwd()
with tarfile.open('evil.tar', 'w') as tar:
    def put(name, **more):
        entry = tarfile.TarInfo(name)
        for key, value in more.items(): setattr(entry, key, value)
        data = b'overwritten\n' if entry.isreg() else b''
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    put('bin/tool')
    put('away', type=tarfile.SYMTYPE, linkname=here + '/out')
    put('away/canary')
    put('up', type=tarfile.SYMTYPE, linkname='../../../../..' + here + '/out')
    put('up/canary')
    put('../../../../out/canary')
    put(here + '/out/canary')
    put('/work/../work/out')
END
  )");
  (void)rootfs::import_image(store.request("evil.tar"));  // taken or refused
  CHECK(text(store.path("out/canary")) == "untouched\n");
  for (const auto& name : store.there()) {
    CHECK(name == "image");
  }
}

TEST_CASE("a layer's entries cannot leave the image") {
  const Store store;
  store.shell(std::string(kMakeImage) + R"(
    mkdir out c; echo untouched > out/canary; ln -s "$PWD/out" c/away
    umoci insert --image layout:one c /
    mkdir -p d/away; echo overwritten > d/away/canary
    umoci insert --image layout:one d /
  )");
  REQUIRE(rootfs::import_image(store.request("layout")));
  CHECK(text(store.path("out/canary")) == "untouched\n");
}

TEST_CASE("a damaged image is refused and leaves nothing") {
  const Store store;
  store.shell(std::string(kMakeImage) + R"(
    big=$(ls -S layout/blobs/sha256/* | head -1)
    printf 'x' | dd of="$big" bs=1 seek=40 conv=notrunc
  )");
  CHECK_FALSE(store.refusal(store.request("layout")).empty());
  CHECK(store.there().empty());
  store.shell("echo nothing > junk.tar");
  CHECK_THAT(store.refusal(store.request("junk.tar")), Contains("tar"));
  CHECK(store.there().empty());
}

TEST_CASE("what is not an image at all is refused before anything is made") {
  const Store store;
  store.shell("mkdir plain");
  const auto folder = rootfs::source_kind(store.images(), store.path("plain"));
  REQUIRE(!folder);
  CHECK_THAT(folder.error().message(), Contains("oci-layout"));
  CHECK(!rootfs::source_kind(store.images(), store.path("missing")));
  store.shell("tar -cf empty.tar -T /dev/null");
  ImportRequest request = store.request("empty.tar");
  request.name = "../x";
  CHECK_THAT(store.refusal(request), Contains("not a name"));
}

TEST_CASE("an image's place is taken only by who asks for it") {
  const Store store;
  store.shell(std::string(kMakeImage) + "tar -C a -cf one.tar .; tar -C b -cf two.tar .");
  REQUIRE(rootfs::import_image(store.request("one.tar")));
  ImportRequest second = store.request("two.tar");
  CHECK_THAT(store.refusal(second), Contains("--replace"));
  CHECK(fs::exists(store.tree("image") + "/bin/tool"));
  second.replace = true;
  REQUIRE(rootfs::import_image(second));
  CHECK(!fs::exists(store.tree("image") + "/bin/tool"));
  CHECK(store.there() == std::vector<std::string>{"image"});
}

TEST_CASE("an image that is in use is neither removed nor pruned, replaced or not") {
  const Store store;
  store.shell(std::string(kMakeImage) + "tar -C a -cf one.tar .; tar -C b -cf two.tar .");
  REQUIRE(rootfs::import_image(store.request("one.tar")));
  auto used = rootfs::use_image(store.images(), "image");
  REQUIRE(used);
  const auto refused = rootfs::remove_image(store.images(), "image");
  REQUIRE(!refused);
  CHECK(refused.error().code() == EBUSY);
  ImportRequest second = store.request("two.tar");
  second.replace = true;
  REQUIRE(rootfs::import_image(second));
  REQUIRE(rootfs::prune_images(store.images()));
  CHECK(::faccessat(used->root.get(), "bin/tool", F_OK, 0) == 0);  // who has it keeps it whole
  used = base::fail_because("no longer");
  const auto freed = rootfs::prune_images(store.images());
  REQUIRE(freed);
  CHECK(*freed > 0);
  CHECK(store.there() == std::vector<std::string>{"image"});
  CHECK(rootfs::remove_image(store.images(), "image"));
  CHECK(store.there().empty());
  const auto missing = rootfs::remove_image(store.images(), "image");
  REQUIRE(!missing);
  CHECK(missing.error().code() == ENOENT);
}

TEST_CASE("an import that was killed is tidied up by the next, one that runs is let be") {
  const Store store;
  store.shell(
      "mkdir -p images/.import-dead/files images/.import-live; echo x > "
      "images/.import-dead/files/x");
  const auto live =
      base::open_at(AT_FDCWD, store.images() + "/.import-live", O_RDONLY | O_DIRECTORY);
  REQUIRE(live);
  REQUIRE(::flock(live->get(), LOCK_EX | LOCK_NB) == 0);
  REQUIRE(rootfs::prune_images(store.images()));
  CHECK(store.there() == std::vector<std::string>{".import-live"});
}

TEST_CASE("what is exported comes back as it was") {
  const Store store;
  store.shell(std::string(kMakeImage) + "tar -C a -cf one.tar .");
  const auto first = rootfs::import_image(store.request("one.tar"));
  REQUIRE(first);
  REQUIRE(rootfs::export_image(store.images(), "image", store.path("back.tar")));
  const auto again = rootfs::import_image(store.request("back.tar", "again"));
  REQUIRE(again);
  CHECK(again->digest == first->digest);
  CHECK(!rootfs::export_image(store.images(), "image", store.path("back.tar")));  // it is there
  const std::string elsewhere = "/dev/shm/brood-test-" + std::to_string(::getpid()) + ".tar";
  CHECK(rootfs::export_image(store.images(), "image", elsewhere));  // another file system
  CHECK(fs::file_size(elsewhere) == fs::file_size(store.path("back.tar")));
  fs::remove(elsewhere);
}

TEST_CASE("an image goes out as others take it, with what it says of itself, and comes back") {
  const Store store;
  store.shell(std::string(kMakeImage) + "tar -C a -cf one.tar .");
  auto request = store.request("one.tar");
  const auto plain = rootfs::import_image(request);
  REQUIRE(plain);
  REQUIRE(rootfs::export_image(store.images(), "image", store.path("plain.oci"),
                               rootfs::ExportFormat::oci));
  // By umoci, as anybody would give it a configuration.
  store.shell(
      "skopeo copy --quiet oci-archive:plain.oci oci:given:x && umoci config --image given:x "
      "--config.entrypoint=/bin/tool --config.entrypoint='two words' --config.cmd=a --config.cmd=b "
      "--config.env=K=V --config.workingdir=/w --config.user=7:8 --config.stopsignal=SIGINT");
  const auto configured = store.request("given", "configured");
  const auto first = rootfs::import_image(configured);
  REQUIRE(first);
  CHECK(first->digest == plain->digest);
  CHECK(first->config.entrypoint == std::vector<std::string>{"/bin/tool", "two words"});
  for (const auto& [format, file, kind] :
       {std::tuple{rootfs::ExportFormat::oci, "out.oci", rootfs::SourceKind::oci_archive},
        {rootfs::ExportFormat::docker, "out.docker", rootfs::SourceKind::docker_archive}}) {
    CAPTURE(file);
    REQUIRE(rootfs::export_image(store.images(), "configured", store.path(file), format));
    CHECK(rootfs::source_kind(store.images(), store.path(file)).value() == kind);
    auto back = store.request(file, std::string("back-") + file);
    back.kind = kind;
    const auto again = rootfs::import_image(back);
    REQUIRE(again);
    CHECK(again->digest == first->digest);
    CHECK(again->config == first->config);
  }
  store.shell(
      "skopeo inspect --raw docker-archive:out.docker >raw.json && "
      "skopeo inspect oci-archive:out.oci:configured | grep -q '\"Architecture\"'");
  CHECK(!rootfs::export_image(store.images(), "configured", store.path("out.oci"),
                              rootfs::ExportFormat::oci));
  CHECK(store.there() ==
        std::vector<std::string>{"back-out.docker", "back-out.oci", "configured", "image"});
}

TEST_CASE("a program that reads what is hostile finds nothing of the host's around it") {
  const Store store;
  store.shell("mkdir work; mknod work/zero c 1 5; cp /usr/bin/true work/true");
  const auto run =
      rootfs::run_confined({.arguments = {"/usr/bin/sh", "-c",
                                          "ls -A / /etc /dev; ls /home /root /var /run 2>&1; "
                                          "cat /work/zero 2>&1; /work/true 2>&1; echo pid $$; "
                                          "grep -c . /proc/net/dev; grep CapEff /proc/self/status; "
                                          "echo x > /usr/x 2>&1; ls /proc | grep -c '^[0-9]'"},
                            .work = store.path("work")});
  INFO((run ? "" : run.error().message()));
  REQUIRE(run);
  CHECK_THAT(*run, !Contains("shadow") && !Contains("passwd"));
  CHECK_THAT(*run, Contains("cannot access '/home'") && Contains("cannot access '/root'") &&
                       Contains("cannot access '/var'") && Contains("cannot access '/run'"));
  CHECK_THAT(*run, Contains("/work/zero: Permission denied"));
  CHECK_THAT(*run, Contains("/work/true: Permission denied"));
  CHECK_THAT(*run, Contains("pid 1\n"));
  CHECK_THAT(*run, Contains("\n3\n"));  // two lines of a heading, and the loopback
  CHECK_THAT(*run, Contains("CapEff:\t0000000000000000"));
}

TEST_CASE("a program that fails says why, and its exit status") {
  const Store store;
  store.shell("mkdir work");
  const auto run = rootfs::run_confined(
      {.arguments = {"/usr/bin/sh", "-c", "echo broken >&2; exit 3"}, .work = store.path("work")});
  REQUIRE(!run);
  CHECK_THAT(run.error().message(), Contains("exit status 3") && Contains("broken"));
}
