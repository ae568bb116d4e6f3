// Packet filters of one network namespace, by libnftables.
#pragma once

#include <memory>
#include <string>

#include "base/error.h"

struct nft_ctx;

namespace netns {

// Needs CAP_NET_ADMIN over the namespace. One thread at a time.
class Nftables {
 public:
  // Of the namespace that the calling thread is in; may be used in any other afterwards.
  static base::Result<Nftables> open();

  // Commands as nft(8) reads them, all or none of them. An error has what libnftables says: what
  // this kernel lacks is told here.
  base::Status run(const std::string& commands);
  // What `commands` list, as JSON (libnftables-json(5)).
  base::Result<std::string> list(const std::string& commands);

 private:
  struct Free {
    void operator()(nft_ctx* context) const;
  };
  explicit Nftables(std::unique_ptr<nft_ctx, Free> context) : context_(std::move(context)) {}
  std::unique_ptr<nft_ctx, Free> context_;
};

}  // namespace netns
