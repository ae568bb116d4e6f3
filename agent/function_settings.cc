// The rules for what a function is deployed with. Apart from the names in types.cc, which the
// command line has without what these need.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "agent/network.h"
#include "agent/types.h"
#include "base/units.h"
#include "rootfs/names.h"

namespace agent {
namespace {

bool is_identifier(std::string_view text) {
  const auto word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) == 0 &&
         std::all_of(text.begin(), text.end(), word);
}

template <typename T>
std::string out_of_range(const char* field, T value, T low, T high, const std::string& shown) {
  return value < low || value > high ? std::string(field).append(" must be ").append(shown)
                                     : std::string{};
}

std::string check_environment(const std::map<std::string, std::string>& environment) {
  constexpr std::size_t kMostInOne = 4 << 10;
  constexpr std::size_t kMostTogether = 64 << 10;
  std::size_t together = 0;
  for (const auto& [key, value] : environment) {
    if (!is_identifier(key)) {
      return "environment: '" + key + "' is not a name ([A-Za-z_][A-Za-z0-9_]*)";
    }
    if (value.find('\0') != std::string::npos) {
      return "environment: the value of " + key + " has a NUL byte";
    }
    if (value.size() > kMostInOne) {
      return "environment: the value of " + key + " is over 4 KiB";
    }
    together += key.size() + value.size() + 2;
  }
  return together > kMostTogether ? "environment: all values together are over 64 KiB"
                                  : std::string{};
}

std::string check_layers(const std::vector<std::string>& layers) {
  if (layers.size() > kMostLayers) {
    return "layers: at most " + std::to_string(kMostLayers) + " in one function";
  }
  for (auto layer = layers.begin(); layer != layers.end(); ++layer) {
    if (const auto problem = validate_name(*layer); !problem.empty()) {
      return "layers: " + problem;
    }
    if (std::find(layers.begin(), layer, *layer) != layer) {
      return "layers: '" + *layer + "' is named twice";
    }
  }
  return {};
}

std::string check_listen(const std::string& listen) {
  constexpr std::size_t kMostPath = 107;  // sockaddr_un
  if (listen.empty()) {
    return {};
  }
  if (listen.front() == '/') {
    return listen.size() <= kMostPath && listen.find('\0') == std::string::npos
               ? std::string{}
               : "listen: the path of a Unix socket has at most 107 bytes";
  }
  unsigned port = 0;
  const auto [end, error] = std::from_chars(listen.data(), listen.data() + listen.size(), port);
  return error == std::errc{} && end == listen.data() + listen.size() && port >= 1 && port <= 65535
             ? std::string{}
             : "listen must be a port, such as 8080, or the absolute path of a Unix socket";
}

}  // namespace

// It becomes a file's path, so nothing but identifiers.
bool is_module_handler(std::string_view text) {
  if (text.size() > 255 || text.find('.') == std::string_view::npos) {
    return false;
  }
  for (;;) {
    const auto dot = text.find('.');
    if (!is_identifier(text.substr(0, dot))) {
      return false;
    }
    if (dot == std::string_view::npos) {
      return true;
    }
    text.remove_prefix(dot + 1);
  }
}

bool is_program_handler(std::string_view text) {
  if (text.empty() || text.size() > 255 || text.front() == '/' ||
      text.find('\0') != std::string_view::npos) {
    return false;
  }
  for (;;) {
    const auto slash = text.find('/');
    const std::string_view part = text.substr(0, slash);
    if (part.empty() || part == "." || part == "..") {
      return false;
    }
    if (slash == std::string_view::npos) {
      return true;
    }
    text.remove_prefix(slash + 1);
  }
}

NetworkSettings network_settings(const FunctionSettings& settings) {
  return {.mode = settings.network,
          .allow = settings.allow,
          .rate = settings.network_rate,
          .connections = settings.network_connections};
}

std::string validate(const FunctionSettings& settings) {
  using namespace std::chrono_literals;
  if (!rootfs::is_image_name(settings.runtime)) {
    return "runtime: a name is 1 to 63 of a-z, 0-9, '.', '-' and '_', and begins with a letter or "
           "a digit";
  }
  if (!settings.handler.empty() && !is_module_handler(settings.handler) &&
      !is_program_handler(settings.handler)) {
    return "handler must be MODULE.FUNCTION, such as handler.main, or the path of a program below "
           "the code";
  }
  if (auto problem = check_listen(settings.listen); !problem.empty()) {
    return problem;
  }
  if (auto problem = check_layers(settings.layers); !problem.empty()) {
    return problem;
  }
  if (const auto network = network_of(network_settings(settings)); !network) {
    return network.error().message();
  }
  const std::string problems[] = {
      out_of_range<std::uint64_t>("memory", settings.memory_bytes, 16ULL << 20, 64ULL << 30,
                                  "16MiB to 64GiB"),
      out_of_range<std::uint32_t>("cpu", settings.milli_cpu, 10, 1'024'000, "0.01 to 1024"),
      out_of_range<std::uint32_t>("pids", settings.pids, 4, 32'768, "4 to 32768"),
      out_of_range("timeout", settings.timeout, 1ms, std::chrono::milliseconds(15min),
                   "1ms to 15m"),
      out_of_range<std::uint32_t>("concurrency", settings.concurrency, 1, 1000, "1 to 1000"),
      out_of_range<std::uint32_t>("queue", settings.queue, 0, 10'000, "0 to 10000"),
      out_of_range("idle", settings.idle, 0ms, std::chrono::milliseconds(24h), "0 to 24h")};
  for (const std::string& problem : problems) {
    if (!problem.empty()) {
      return problem;
    }
  }
  return check_environment(settings.environment);
}

}  // namespace agent
