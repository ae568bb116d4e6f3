// A folder as the archive that `brood deploy` sends: the same folder gives the same bytes.
// Runs in the command line with its user's rights.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "rootfs/archive.h"

namespace rootfs {

enum class CodeSource { folder, archive, single_file };

// What `path` is: a folder; a regular file whose name ends in .zip, .tar, .tar.gz, .tgz or .tar.zst
// (an archive, in any case of letters); or any other regular file. Fails for everything else.
Result<CodeSource> code_source(const std::string& path);

// What a folder's .broodignore leaves out, after the model of .gitignore: one pattern a line; empty
// lines and those that begin with '#' say nothing; `*`, `?` and `[...]` do not match a '/'; a
// pattern with a '/' before its end is held against the path from the folder, any other against
// the last name of every path; one that ends in '/' is for directories only; a leading '!' takes
// back, and the last pattern that matches counts. What lies below a directory that is left out is
// left out. Pure.
class IgnoreRules {
 public:
  IgnoreRules() = default;
  // Refuses, naming the line, '**' and what is no pattern.
  static Result<IgnoreRules> parse(std::string_view text);

  enum class Kind { directory, other };
  // Also true for what no deployment wants: .git, .hg, .svn, __pycache__, *.pyc, .broodignore.
  bool ignores(const std::string& path, Kind kind) const;

 private:
  struct Rule {
    std::string pattern;
    bool anchored = false;
    bool directories_only = false;
    bool takes_back = false;
  };
  std::vector<Rule> rules_;
};

struct PackSummary {
  std::uint64_t files = 0;  // entries
  std::uint64_t bytes = 0;  // of the files, unpacked
};

// Writes a GNU tar of the folder to `out_fd`: entries sorted by path, times and owners 0, modes as
// an agent would set them. Links are stored as links, never followed. Refuses, naming the file,
// what an agent would refuse: a link that leads out, a socket, device or named pipe, a name it
// would not take, and more than the limits; also an empty folder.
Result<PackSummary> pack_folder(const std::string& path, int out_fd,
                                const UnpackLimits& limits = {});

}  // namespace rootfs
