// Deployed code, stored by the digest of the archive it came in. What is here has been unpacked by
// a confined child and looked over; it never changes, and goes when no function uses it.
//
//   STATE/code/DIGEST/      the tree
//   STATE/compiled/…        handlers' modules, compiled by their runtime's interpreter in a sandbox
//   STATE/staging/…         what is not finished; emptied at every start
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "agent/config.h"
#include "agent/language.h"
#include "agent/maker.h"
#include "agent/service.h"
#include "base/error.h"
#include "base/fd.h"

namespace agent {

class CodeStore {
 public:
  // `unpack_uid`: a host uid of its own for the unpacker. `mounts_fd`: see rootfs::UnpackJob;
  // borrowed. `disk` runs what blocks.
  static base::Result<std::unique_ptr<CodeStore>> open(const AgentConfig& config,
                                                       std::uint32_t unpack_uid, int mounts_fd,
                                                       Maker& disk);

  bool has(std::string_view digest) const;
  std::unique_ptr<Upload> begin_upload();

  // The tree, to be shown in sandboxes.
  base::Result<base::UniqueFd> open_tree(std::string_view digest) const;
  // The file below the code's root that holds a handler's module ("pkg/mod.py"); nothing when there
  // is none.
  std::optional<std::string> module_file(std::string_view digest, std::string_view handler,
                                         Language language) const;

  // What COMPILE gave for a handler under an image; empty when there is nothing.
  std::string compiled(std::string_view digest, std::string_view handler,
                       std::string_view image) const;
  base::Status keep_compiled(std::string_view digest, std::string_view handler,
                             std::string_view image, std::string_view code) const;

  // Removes code that is older than an hour and not in `used`. Blocks.
  void collect(const std::set<std::string>& used) const;

 private:
  friend class FileUpload;
  CodeStore(const AgentConfig& config, std::uint32_t unpack_uid, int mounts_fd, Maker& disk);

  const AgentConfig& config_;
  std::uint32_t unpack_uid_;
  int mounts_fd_;
  Maker& disk_;
  base::UniqueFd code_;
  base::UniqueFd compiled_;
  base::UniqueFd staging_;
  std::uint64_t next_ = 0;
};

}  // namespace agent
