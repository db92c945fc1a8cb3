// godwit-switch's REST API (protocol/switch_api.hpp) over Steerings and the plane.
#pragma once

#include "lib/clock.hpp"
#include "lib/http/server.hpp"

#include "dataplane/events.hpp"
#include "dataplane/flows.hpp"
#include "dataplane/steering.hpp"

#include <string>
#include <vector>

namespace godwit::dataplane {

// All of it outlives the server.
struct Control {
    std::string id, plane_name;
    Plane& plane;
    Steerings& steerings;
    EventStream& events;
    Clock& clock;
};

std::vector<http::Route> control_routes(Control& control);
// flow_routes.cpp; `flows` outlives the server.
std::vector<http::Route> flow_routes(Flows& flows);
protocol::SwitchStats read_stats(Plane& plane);
http::Event event_of(const std::string& type, const protocol::VmSteering& status);

}  // namespace godwit::dataplane
