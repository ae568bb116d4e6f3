// brood image …: works on the folder of images itself, as root; no agent is asked.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/config.h"
#include "cmd/cli/image_verbs.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"
#include "rootfs/confined_tool.h"
#include "rootfs/image_store.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kShownDigest = 19;  // "sha256:" and twelve digits, as others show it

struct ImageFlags {
  std::string images = agent::AgentConfig{}.images_dir;
  std::vector<std::string> names;
  std::string source;
  std::string name;
  std::string reference;
  std::string credentials;
  std::string output;
  rootfs::ExportFormat format = rootfs::ExportFormat::tree;
  bool replace = false;
  bool no_tls_verify = false;
  bool json = false;
  bool quiet = false;
};

template <typename T>
Outcome<T> outcome_of(base::Result<T> result) {
  if (!result) {
    return fail(Exit::failed, escape_controls(result.error().message()));
  }
  return std::move(*result);
}

Outcome<int> outcome_of(const base::Status& status) {
  if (!status) {
    return fail(Exit::failed, escape_controls(status.error().message()));
  }
  return 0;
}

Json document_of(const rootfs::Manifest& manifest) {
  return Json::parse(rootfs::format_manifest(manifest));
}

Outcome<int> bring_in(const ImageFlags& flags, rootfs::ImportRequest request) {
  request.images_dir = flags.images;
  request.name = flags.name.empty() ? rootfs::name_of_source(request.source) : flags.name;
  request.reference = flags.reference;
  request.replace = flags.replace;
  if (request.name.empty()) {
    return fail(Exit::usage, "no name can be made of '" + request.source + "': give --name");
  }
  request.progress = [](const std::string& doing) { tell(doing + " …"); };
  CLI_TRY(const rootfs::Manifest manifest, outcome_of(rootfs::import_image(request)));
  if (flags.json) {
    return write_output(document_of(manifest).dump(2) + "\n");
  }
  return write_output(summary_of(manifest));
}

Outcome<int> import(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image import"));
  rootfs::note_signals();
  rootfs::ImportRequest request;
  std::error_code error;
  request.source = std::filesystem::canonical(flags.source, error).string();
  if (error) {
    return fail(Exit::failed, "'" + flags.source + "': " + error.message());
  }
  CLI_TRY(request.kind, outcome_of(rootfs::source_kind(flags.images, request.source)));
  return bring_in(flags, std::move(request));
}

Outcome<int> pull(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image pull"));
  rootfs::note_signals();
  rootfs::ImportRequest request;
  request.source = flags.source;
  request.kind = rootfs::SourceKind::registry;
  request.tls = !flags.no_tls_verify;
  if (!flags.credentials.empty()) {
    std::error_code error;
    request.credentials = std::filesystem::canonical(flags.credentials, error).string();
    if (error) {
      return fail(Exit::failed, "'" + flags.credentials + "': " + error.message());
    }
  }
  return bring_in(flags, std::move(request));
}

Outcome<int> list(const ImageFlags& flags) {
  CLI_TRY(const auto images, outcome_of(rootfs::list_images(flags.images)));
  if (!flags.json) {
    Table table({"NAME", "DIGEST", "SIZE", "FILES", "FROM"});
    for (const auto& image : images) {
      if (image.manifest) {
        const rootfs::Manifest& manifest = *image.manifest;
        table.add({image.name, manifest.digest.substr(0, kShownDigest),
                   rough_bytes(manifest.size_bytes), std::to_string(manifest.files),
                   manifest.source.empty() ? "built here" : escape_controls(manifest.source)});
      } else {
        table.add(
            {image.name, "unusable", "", "", escape_controls(image.manifest.error().message())});
      }
    }
    return write_output(table.print());
  }
  Json all = Json::array();
  for (const auto& image : images) {
    all.push_back(image.manifest
                      ? document_of(*image.manifest)
                      : Json{{"name", image.name}, {"problem", image.manifest.error().message()}});
  }
  return write_output(all.dump(2) + "\n");
}

Outcome<int> inspect(const ImageFlags& flags) {
  Json all = Json::array();
  for (const std::string& name : flags.names) {
    const auto image = rootfs::open_image(flags.images, name);
    if (!image) {
      return fail(image.error().code() == ENOENT ? Exit::not_found : Exit::failed,
                  escape_controls(image.error().message()));
    }
    all.push_back(document_of(image->manifest));
  }
  return write_output(all.dump(2) + "\n");
}

Outcome<int> remove(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image remove"));
  for (const std::string& name : flags.names) {
    if (const base::Status status = rootfs::remove_image(flags.images, name); !status) {
      return fail(status.error().code() == ENOENT ? Exit::not_found : Exit::failed,
                  escape_controls(status.error().message()));
    }
    CLI_TRY([[maybe_unused]] const int told, write_output(name + "\n"));
  }
  return 0;
}

Outcome<int> verify(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image verify"));
  for (const std::string& name : flags.names) {
    const auto image = rootfs::use_image(flags.images, name);
    if (!image) {
      return fail(image.error().code() == ENOENT ? Exit::not_found : Exit::failed,
                  escape_controls(image.error().message()));
    }
    CLI_TRY([[maybe_unused]] const int same,
            outcome_of(rootfs::verify_once(*image, std::time(nullptr))));
    if (!flags.quiet) {
      CLI_TRY([[maybe_unused]] const int told,
              write_output(name + ": " + image->manifest.digest + "\n"));
    }
  }
  return 0;
}

Outcome<int> prune(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image prune"));
  CLI_TRY(const std::uint64_t freed, outcome_of(rootfs::prune_images(flags.images)));
  return write_output("freed " + rough_bytes(freed) + "\n");
}

Outcome<int> export_one(const ImageFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("image export"));
  rootfs::note_signals();
  return outcome_of(rootfs::export_image(flags.images, flags.name, flags.output, flags.format));
}

using Verb = Outcome<int> (*)(const ImageFlags&);

CLI::App* add(CLI::App& group, Session& session, const std::shared_ptr<ImageFlags>& flags,
              const char* name, const char* help, Verb verb) {
  CLI::App* added = add_on_images(group, name, help, flags->images);
  added->callback(
      [flags, verb, &session] { session.run = [flags, verb] { return verb(*flags); }; });
  return added;
}

void add_bringing_in(CLI::App* verb, const std::shared_ptr<ImageFlags>& flags) {
  verb->add_option("--name", flags->name, "what it is called here; made of the source");
  verb->add_flag("--replace", flags->replace, "take the place of an image of this name");
  verb->add_flag("--json", flags->json, "print what image.json says of it");
}

}  // namespace

void add_image(CLI::App& app, Session& session) {
  CLI::App* group = app.add_subcommand(kImage.name, kImage.help);
  group->require_subcommand(1);
  const auto flags = std::make_shared<ImageFlags>();

  CLI::App* verb = add(*group, session, flags, "import",
                       "From an OCI layout (folder or tar), `docker save`, or a tar of a root "
                       "file system",
                       import);
  verb->add_option("source", flags->source, "a file or a folder")->required();
  verb->add_option("--ref", flags->reference, "which of several images in it");
  add_bringing_in(verb, flags);

  verb = add(*group, session, flags, "pull", "From a registry", pull);
  verb->add_option("image", flags->source, "REGISTRY/NAME[:TAG]")->required();
  verb->add_option("--authfile", flags->credentials, "as `skopeo login --authfile` writes it")
      ->type_name("FILE");
  verb->add_flag("--no-tls-verify", flags->no_tls_verify,
                 "plain HTTP, or a certificate that nobody has signed");
  add_bringing_in(verb, flags);

  verb = add(*group, session, flags, "list", "What there is", list);
  verb->alias("ls");
  verb->add_flag("--json", flags->json);

  verb = add(*group, session, flags, "inspect", "All that is known of them, as JSON", inspect);
  verb->add_option("name", flags->names)->required();

  verb = add(*group, session, flags, "verify",
             "Hold them against their digests, unless nothing of them has changed since that was "
             "done, and the machine booted",
             verify);
  verb->add_option("name", flags->names)->required();
  verb->add_flag("-q,--quiet", flags->quiet, "say nothing of those that are as they should be");

  verb = add(*group, session, flags, "remove", "Take images away that nothing uses", remove);
  verb->alias("rm");
  verb->add_option("name", flags->names)->required();

  verb =
      add(*group, session, flags, "prune",
          "Remove what broken imports left, and replaced images that nothing uses any more", prune);

  verb = add(*group, session, flags, "export", "An image as a file, for others", export_one);
  verb->add_option("name", flags->name)->required();
  verb->add_option("-o,--output", flags->output, "a file that is not there yet")->required();
  const std::map<std::string, rootfs::ExportFormat> formats{
      {"tar", rootfs::ExportFormat::tree},
      {"oci", rootfs::ExportFormat::oci},
      {"docker", rootfs::ExportFormat::docker}};
  verb->add_option(
          "--format", flags->format,
          "tar: its tree alone; oci: an OCI layout in a tar; docker: for docker load [tar]")
      ->type_name("FORMAT")
      ->transform(CLI::CheckedTransformer(formats).description(""));
}

}  // namespace cli
