#include "netns/nftables.h"

#include <nftables/libnftables.h>

#include <cerrno>

namespace netns {

using base::Result;
using base::Status;

void Nftables::Free::operator()(nft_ctx* context) const {
  nft_ctx_free(context);
}

Result<Nftables> Nftables::open() {
  std::unique_ptr<nft_ctx, Free> context(nft_ctx_new(NFT_CTX_DEFAULT));
  if (!context || nft_ctx_buffer_output(context.get()) != 0 ||
      nft_ctx_buffer_error(context.get()) != 0) {
    return base::fail(base::Error("nft_ctx_new", ENOMEM));
  }
  return Nftables(std::move(context));
}

Status Nftables::run(const std::string& commands) {
  const int failed = nft_run_cmd_from_buffer(context_.get(), commands.c_str());
  (void)nft_ctx_get_output_buffer(context_.get());
  const std::string said = nft_ctx_get_error_buffer(context_.get());
  if (failed != 0) {
    return base::fail_because("nftables: " + said.substr(0, said.find('\n')));
  }
  return {};
}

Result<std::string> Nftables::list(const std::string& commands) {
  nft_ctx_output_set_flags(context_.get(), NFT_CTX_OUTPUT_JSON);
  const int failed = nft_run_cmd_from_buffer(context_.get(), commands.c_str());
  nft_ctx_output_set_flags(context_.get(), 0);
  std::string listed = nft_ctx_get_output_buffer(context_.get());
  const std::string said = nft_ctx_get_error_buffer(context_.get());
  if (failed != 0) {
    return base::fail_because("nftables: " + said.substr(0, said.find('\n')));
  }
  return listed;
}

}  // namespace netns
