#include "cgroups/controllers.h"

namespace cgroups {

std::string_view controller_name(Controller controller) {
  switch (controller) {
    case Controller::cpu:
      return "cpu";
    case Controller::memory:
      return "memory";
    case Controller::pids:
      return "pids";
    case Controller::io:
      return "io";
  }
  return "?";
}

std::optional<Controller> controller_of(std::string_view name) {
  for (const Controller controller : kControllers) {
    if (controller_name(controller) == name) {
      return controller;
    }
  }
  return std::nullopt;
}

std::vector<Controller> ControllerSet::members() const {
  std::vector<Controller> found;
  for (const Controller controller : kControllers) {
    if (has(controller)) {
      found.push_back(controller);
    }
  }
  return found;
}

std::vector<std::string> ControllerSet::names() const {
  std::vector<std::string> found;
  for (const Controller controller : members()) {
    found.emplace_back(controller_name(controller));
  }
  return found;
}

std::string ControllerSet::joined() const {
  std::string text;
  for (const std::string& name : names()) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

ControllerSet parse_controllers(std::string_view text) {
  ControllerSet found;
  while (!text.empty()) {
    const std::size_t end = text.find_first_of(" \t\n");
    if (const auto controller = controller_of(text.substr(0, end))) {
      found.add(*controller);
    }
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return found;
}

}  // namespace cgroups
