// Where whoever runs something gets its sandbox from: a pool, or one that is made for it alone. All
// on the event loop.
#pragma once

#include <memory>
#include <string>

#include "agent/sandbox.h"

namespace agent {

// Somebody who waits for a sandbox. Offers come in the order in which claims were made.
class Claimant {
 public:
  virtual ~Claimant() = default;
  // False when it has no use for one any more. True: it is its owner now.
  virtual bool offer(const std::shared_ptr<Sandbox>& sandbox) = 0;
  // Sandboxes of this kind cannot be made; `problem` says why. One call for each claim.
  virtual void refuse(const std::string& problem) = 0;
};

class SandboxSource {
 public:
  virtual ~SandboxSource() = default;
  // One that is ready, at once, or none. Its new owner is `owner`.
  virtual std::shared_ptr<Sandbox> take(SandboxOwner* owner) = 0;
  // Puts a waiter in line, and sees to it that a sandbox is made.
  virtual void claim(std::weak_ptr<Claimant> claimant) = 0;
  // One that was taken has ended: its owner hands back what is left of it.
  virtual void retire(Sandbox& sandbox) = 0;
};

}  // namespace agent
