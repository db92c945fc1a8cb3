// The proof that two images are equal: a tree of XXH3-128 hashes, one leaf per 2 MiB of each block.
// A leaf is the hash of its bytes, holes hashed as the zeros they read as; the root is the hash of
// every block's size and leaves in order. XXH3 finds errors and lost writes; it is no defence
// against somebody who forges memory, for which the transport answers.
#pragma once

#include "protocol/agent_wire.hpp"
#include "vm_agent/memory/mapped_file.hpp"

#include <string>
#include <vector>

namespace godwit::memory {

using protocol::wire::Root;

constexpr std::uint64_t kLeafBytes = 2 << 20;

Result<Root> root_of(const std::vector<const MappedFile*>& blocks);
std::string to_hex(const Root& root);

}  // namespace godwit::memory
