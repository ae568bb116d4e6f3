#include "tests/support/filter_verdict.h"

#include <linux/bpf_common.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace tests {

std::uint32_t filter_verdict(const isolate::Filter& filter, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t at = 0; at < filter.size(); ++at) {
    const sock_filter& code = filter[at];
    const auto jump = [&](bool condition) { at += condition ? code.jt : code.jf; };
    switch (code.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + code.k,
                    sizeof accumulator);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= code.k;
        break;
      case BPF_JMP | BPF_JA:
        at += code.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        jump(accumulator == code.k);
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        jump((accumulator & code.k) != 0);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        jump(accumulator > code.k);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        jump(accumulator >= code.k);
        break;
      case BPF_RET | BPF_K:
        return code.k;
      default:
        throw std::runtime_error("instruction " + std::to_string(code.code) +
                                 " is not expected in a filter");
    }
  }
  throw std::runtime_error("the filter has no end");
}

}  // namespace tests
