// The VM's tap device: persistent, so that it is there before QEMU opens it and after an agent
// dies.
#pragma once

#include "lib/error.hpp"

#include <chrono>
#include <string>

namespace godwit::agent {

enum class Link { down, up };

// Creates the tap if it is not there; it is down and in no bridge then.
Result<void> create_tap(const std::string& name);
// Up: into `bridge` (unless that is empty) first, then up. Down: down first, then out of the
// bridge. Both are fine when it is so already.
Result<void> set_tap_link(const std::string& name, const std::string& bridge, Link link);
// The bridge learned the VM's MAC from whoever spoke last, perhaps from the uplink while the VM ran
// elsewhere, and would send nothing to `name` until the VM speaks. This tells it where the VM is;
// the entry stays, whatever arrives elsewhere, until the tap leaves the bridge.
Result<void> pin_mac(const std::string& name, const std::string& mac);
// Until frames really pass, or Retry at the deadline. Blocking. The kernel tells a bridge of a port
// that came up at most once a second, and before that it drops what is for the port.
Result<void> wait_until_running(const std::string& name, std::chrono::milliseconds deadline);
bool is_tap_up(const std::string& name);
bool tap_exists(const std::string& name);
// Not there already is fine.
Result<void> delete_tap(const std::string& name);

}  // namespace godwit::agent
