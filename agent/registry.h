// The functions that are deployed, and the commands that are kept, in SQLite: what the agent knows
// again after a restart.
//
// A change is one transaction in write-ahead mode with synchronous=FULL: once `put` or `remove` has
// returned it survives SIGKILL and loss of power, for one fsync of the log; cut off in the middle
// it has never happened. The file is locked for as long as it is open, so a second agent on the
// same state directory is turned away. Every call blocks on the disk; one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/types.h"
#include "base/error.h"

namespace agent {

class Registry {
 public:
  // Opens, or makes (mode 0600), the file at `path`, whose directory exists, and brings an older
  // form up to date. Refuses, and leaves as it is: a file that is damaged or no registry, one that
  // a newer brood has written, and one that another agent has open.
  static base::Result<Registry> open(const std::string& path);

  Registry(Registry&&) noexcept;
  Registry& operator=(Registry&&) noexcept;
  ~Registry();

  // All functions, by name.
  base::Result<std::vector<Function>> load_all() const;

  // Stores the function in the place of the one of its name, with the next version of that name
  // (whatever `function.version` says): versions count from 1 and never come again, not even after
  // the function was removed. Returns what was stored.
  base::Result<Function> put(Function function);

  enum class Removed { yes, was_not_there };
  base::Result<Removed> remove(std::string_view name);

  // The records of the commands that are kept (agent/kept_command.h), as they were put.
  base::Result<std::vector<std::string>> load_commands() const;
  base::Status put_command(const std::string& id, const std::string& record);
  base::Status remove_command(const std::string& id);

  // All layers, by name. `put_layer` takes the place of the one of its name.
  base::Result<std::vector<Layer>> load_layers() const;
  base::Status put_layer(const Layer& layer);
  base::Status remove_layer(const std::string& name);

  // The digests that functions and layers refer to; code under any other may be deleted.
  base::Result<std::set<std::string>> code_in_use() const;

 private:
  class Database;
  explicit Registry(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
};

}  // namespace agent
