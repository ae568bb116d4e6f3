// brood-names as the agent has it: a confined process that answers a policy's sandboxes what its
// allow-list names, and nothing else, and that reports what the names stand for before it says so.
// A process for each policy: one that hostile bytes have taken over can open what is public to the
// sandboxes of that policy, and to no others. Started again when it has died. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "agent/confined_program.h"
#include "agent/name_book.h"
#include "agent/names_order.h"
#include "agent/relay.h"
#include "base/error.h"
#include "base/fd.h"

namespace agent {

class Names {
 public:
  // `socket`: where the questions come; see NamesKind::serve.
  Names(ConfinedOptions options, std::vector<netns::NameGroup> groups, base::UniqueFd socket)
      : options_(std::move(options)), book_(std::move(groups)), socket_(std::move(socket)) {}

  base::Status start(const RelayTarget& resolver);
  base::Status set_resolver(const RelayTarget& resolver);
  // Starts it again if it has died or was ended; true: there is another control.
  base::Result<bool> look_after();
  // Readable when there are reports, or when it has ended. -1: there is none.
  int control() const { return program_.control.get(); }

  using Admit = std::function<base::Status(const std::vector<netns::Admission>&)>;
  // Takes the reports that have come, some at a time, and answers them once `admit`, which is
  // called at most once, has done what they ask for. False: it has ended, or has said what it must
  // not, and is.
  bool hear(const Admit& admit);

 private:
  struct Heard {
    std::vector<std::uint64_t> questions;
    std::vector<netns::Admission> admissions;
  };
  base::Status take(const NamesReport& report, Heard& heard);
  base::Status send(const NamesOrder& order, int fd = -1);

  const ConfinedOptions options_;
  NameBook book_;
  const base::UniqueFd socket_;
  RelayTarget resolver_{};
  ConfinedProgram program_;
};

}  // namespace agent
