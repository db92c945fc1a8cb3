// How the fakes read requests and word their answers.
#pragma once

#include "lib/http/message.hpp"

#include "protocol/agent_api.hpp"
#include "protocol/region_api.hpp"
#include "protocol/switch_api.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace godwit::fakes {

using namespace protocol;

inline http::Response problem(Fault fault, std::string cause, std::string slug) {
    return http::problem_response({fault, "fake", std::move(cause), std::move(slug)});
}

template <typename T>
T read(const http::Request& request) {
    Result<T> body = json::from_text<T>(request.body, "fake");
    if (!body) throw std::runtime_error(request.path + ": " + body.error().text());
    return std::move(*body);
}

inline http::Response unknown_vm() {
    return problem(Fault::Missing, "no such VM", "unknown-vm");
}
inline http::Response ok() {
    return http::json_response(200, json::bj::object());
}

// Under an address of its own a host's VM is another backend to the switch.
inline std::string host_of(const std::string& backend) {
    return backend.substr(0, backend.find('@'));
}

inline BackendSteering* find(VmSteering& steering, const std::string& name) {
    const auto found = std::ranges::find(steering.backends, name, &BackendSteering::name);
    return found == steering.backends.end() ? nullptr : &*found;
}

}  // namespace godwit::fakes
