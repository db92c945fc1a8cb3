#include "controller/http/openapi.hpp"

#include "lib/daemon.hpp"

#include "protocol/controller_api.hpp"

namespace godwit::controller::openapi {

namespace {

namespace bj = json::bj;

constexpr std::string_view kAccess[] = {"open", "viewer", "operator", "netadmin", "admin", "peer"};

bj::object content(std::string_view type, bj::value schema) {
    return {{type, bj::object{{"schema", std::move(schema)}}}};
}

bj::object parameter(std::string_view name, std::string_view place, bool required) {
    return {{"name", name},
            {"in", place},
            {"required", required},
            {"schema", bj::object{{"type", "string"}}}};
}

bj::array parameters_of(const Operation& operation) {
    bj::array all;
    std::string_view rest = operation.pattern;
    for (std::size_t at = rest.find('{'); at != rest.npos; at = rest.find('{')) {
        rest.remove_prefix(at + 1);
        all.push_back(parameter(rest.substr(0, rest.find('}')), "path", true));
    }
    for (const std::string& name : operation.query) all.push_back(parameter(name, "query", false));
    if (operation.makes_job) all.push_back(parameter("Idempotency-Key", "header", true));
    if (operation.streams) all.push_back(parameter("Last-Event-ID", "header", false));
    return all;
}

bj::object responses_of(const Operation& operation, Schemas& named) {
    bj::object good{{"description", "done"}};
    if (operation.streams)
        good["content"] = content("text/event-stream", bj::object{{"type", "string"}});
    else if (operation.response)
        good["content"] = content("application/json", operation.response(named));
    bj::object problem{{"description", "RFC 9457 problem"}};
    problem["content"] = content("application/problem+json", schema_of<protocol::Problem>(named));
    return {{std::to_string(operation.status), std::move(good)}, {"default", std::move(problem)}};
}

bj::object operation_of(const Operation& operation, Schemas& named) {
    bj::object shown{{"summary", operation.summary},
                     {"x-role", kAccess[static_cast<int>(operation.access)]},
                     {"responses", responses_of(operation, named)}};
    bj::array parameters = parameters_of(operation);
    if (!parameters.empty()) shown["parameters"] = std::move(parameters);
    if (operation.request)
        shown["requestBody"] =
            bj::object{{"content", content("application/json", operation.request(named))}};
    if (operation.access == http::Access::open) shown["security"] = bj::array{};
    return shown;
}

std::string lower(std::string text) {
    for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return text;
}

}  // namespace

bj::value document(const std::vector<Operation>& operations) {
    Schemas named;
    bj::object paths;
    for (const Operation& operation : operations) {
        if (!paths.contains(operation.pattern)) paths[operation.pattern] = bj::object();
        paths[operation.pattern].as_object()[lower(operation.method)] =
            operation_of(operation, named);
    }
    bj::object bearer{{"type", "http"}, {"scheme", "bearer"}};
    return bj::object{
        {"openapi", "3.1.0"},
        {"info", bj::object{{"title", "Godwit controller"}, {"version", daemon::version()}}},
        {"security", bj::array{bj::object{{"bearer", bj::array{}}}}},
        {"paths", std::move(paths)},
        {"components", bj::object{{"schemas", std::move(named)},
                                  {"securitySchemes", bj::object{{"bearer", std::move(bearer)}}}}}};
}

}  // namespace godwit::controller::openapi
