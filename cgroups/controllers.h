// The cgroup controllers that brood sets limits with. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cgroups {

enum class Controller : std::uint8_t { cpu, memory, pids, io };
inline constexpr std::array kControllers{Controller::cpu, Controller::memory, Controller::pids,
                                         Controller::io};

// As the kernel spells it.
std::string_view controller_name(Controller controller);
std::optional<Controller> controller_of(std::string_view name);

class ControllerSet {
 public:
  constexpr ControllerSet() = default;
  constexpr ControllerSet(std::initializer_list<Controller> members) {
    for (const Controller member : members) {
      add(member);
    }
  }
  static constexpr ControllerSet all() {
    return {Controller::cpu, Controller::memory, Controller::pids, Controller::io};
  }

  constexpr bool has(Controller controller) const { return (bits_ & bit(controller)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr void add(Controller controller) { bits_ |= bit(controller); }
  constexpr void remove(Controller controller) {
    bits_ &= static_cast<std::uint8_t>(~bit(controller));
  }
  constexpr ControllerSet without(ControllerSet other) const {
    return ControllerSet(static_cast<std::uint8_t>(bits_ & ~other.bits_));
  }
  constexpr ControllerSet both(ControllerSet other) const {
    return ControllerSet(static_cast<std::uint8_t>(bits_ & other.bits_));
  }
  constexpr bool operator==(const ControllerSet&) const = default;

  std::vector<Controller> members() const;
  std::vector<std::string> names() const;
  std::string joined() const;  // "cpu, memory"

 private:
  constexpr explicit ControllerSet(std::uint8_t bits) : bits_(bits) {}
  static constexpr std::uint8_t bit(Controller controller) {
    return static_cast<std::uint8_t>(1U << static_cast<unsigned>(controller));
  }
  std::uint8_t bits_ = 0;
};

// The text of cgroup.controllers or cgroup.subtree_control: names between blanks. Those that brood
// has no use for (cpuset, hugetlb, …) are left out.
ControllerSet parse_controllers(std::string_view text);

}  // namespace cgroups
