#include "agent/network.h"
#include "base/digest.h"

namespace agent {

std::string network_tag(const Network& network) {
  return base::sha256_hex(network.key).substr(0, 10);
}

}  // namespace agent
