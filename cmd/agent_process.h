// What a program that is an agent, for good or for one command, finds and sets before it is one.
#pragma once

#include <initializer_list>
#include <string>

#include "agent/config.h"

namespace cmd {

// The first of `candidates`, below the directory of the running program, that is there; or nothing.
std::string beside_program(std::initializer_list<const char*> candidates);

// Fills in where what came with this program is, installed or as it was built, where nobody has
// said.
void find_parts(agent::AgentConfig& config);

// Each sandbox takes about a dozen descriptors: as many as may be had.
void raise_descriptor_limit();

// Zygotes and their sandboxes have 1, which a hard limit of 0 would keep them from.
void allow_core_limit();

}  // namespace cmd
