// The plane that a configuration asks for.
#pragma once

#include "lib/error.hpp"

#include "dataplane/config.hpp"
#include "dataplane/plane.hpp"

#include <memory>

namespace godwit::dataplane {

// Once per process.
Result<std::unique_ptr<Plane>> open_plane(const SwitchConfig& config);

}  // namespace godwit::dataplane
