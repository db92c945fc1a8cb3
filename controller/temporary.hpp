// Temporary addresses: what a destination in steering mode nat is called while it is not the only one that has
// the hosted address (CN102932409A [0050], [0074]). A switch's configuration lends them out of ranges.
#pragma once

#include "lib/error.hpp"

#include "controller/config.hpp"
#include "protocol/agent_api.hpp"
#include "protocol/switch_api.hpp"

#include <string>
#include <vector>

namespace godwit::controller {

// Of a switch's `temporary_addresses`: "10.9.1.30-10.9.1.39/24". Empty: it is right; else what is wrong with it.
std::string complaint_about_range(const std::string& range);

// What may stand for each of `hosted`, in its order: the addresses of the ranges in whose network it is, with
// prefix length. Rejected no-temporary-address names a hosted address that no range fits, and two of one
// family, because then nothing tells which of them a temporary one stands for.
Result<std::vector<std::vector<std::string>>> temporary_candidates(
    const std::vector<std::string>& ranges, const std::vector<std::string>& hosted);

std::string without_prefix(const std::string& address);

// A locally administered MAC (IEEE 802 section 8.4.2) made from an address: as unique as that is.
std::string own_mac(const std::string& address);

// The backend that a VM of this description is behind `host`. Its name at the switch is the host's id, and in mode
// nat another one: sessions know their backend by name, and under another address they are another's.
protocol::Backend backend_of(const HostConfig& host, const protocol::VmSpec& spec);
bool is_nat(const protocol::Backend& backend);

}  // namespace godwit::controller
