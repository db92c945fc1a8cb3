// Requests, responses, and the one table between problem slugs and HTTP statuses.
#include "lib/http/message.hpp"

#include <algorithm>
#include <array>

namespace godwit::http {

namespace bj = json::bj;

namespace {

constexpr std::string_view kTypePrefix = "urn:godwit:problem:";

struct SlugStatus {
    std::string_view slug;
    int status;
};

// Slugs whose status differs from the one their fault gives.
constexpr std::array kStatuses = {
    SlugStatus{"malformed-json", 400},
    SlugStatus{"malformed-request", 400},
    SlugStatus{"missing-idempotency-key", 400},
    SlugStatus{"unauthenticated", 401},
    SlugStatus{"forbidden", 403},
    SlugStatus{"unknown-path", 404},
    SlugStatus{"method-not-allowed", 405},
    SlugStatus{"request-timeout", 408},
    SlugStatus{"stale-epoch", 409},
    SlugStatus{"no-memory", 409},
    SlugStatus{"body-too-large", 413},
    SlugStatus{"unsupported-media-type", 415},
    SlugStatus{"invalid-document", 422},
    SlugStatus{"idempotency-key-reused", 422},
    SlugStatus{"unknown-host", 422},
    SlugStatus{"same-host", 422},
    SlugStatus{"unsupported-steering", 422},
    SlugStatus{"unsupported-strategy", 422},
    SlugStatus{"unknown-vm-at-host", 422},
    SlugStatus{"invalid-steering", 422},
    SlugStatus{"unknown-port", 422},
    SlugStatus{"same-port", 422},
    SlugStatus{"same-mac", 422},
    SlugStatus{"temporary-address", 422},
    SlugStatus{"not-hosting", 422},
    SlugStatus{"mode-in-use", 409},
    SlugStatus{"duplicate-address", 422},
    SlugStatus{"unknown-backend", 422},
    SlugStatus{"too-many-requests", 429},
    SlugStatus{"headers-too-large", 431},
    SlugStatus{"internal-error", 500},
    SlugStatus{"qemu-failed", 502},
    SlugStatus{"peer-unreachable", 502},
    SlugStatus{"not-ready", 503},
    SlugStatus{"too-many-connections", 503},
};

std::string_view general_slug(Fault fault) {
    switch (fault) {
        case Fault::Retry:
            return "unavailable";
        case Fault::Conflict:
            return "conflict";
        case Fault::Rejected:
            return "rejected";
        case Fault::Missing:
            return "not-found";
        case Fault::Denied:
            return "forbidden";
        case Fault::Lost:
            return "peer-unreachable";
        case Fault::Corrupt:
            return "corrupt";
    }
    return "internal-error";
}

int general_status(Fault fault) {
    switch (fault) {
        case Fault::Retry:
            return 503;
        case Fault::Conflict:
            return 409;
        case Fault::Rejected:
            return 400;
        case Fault::Missing:
            return 404;
        case Fault::Denied:
            return 403;
        case Fault::Lost:
            return 502;
        case Fault::Corrupt:
            return 500;
    }
    return 500;
}

bj::array field_array(const std::vector<FieldError>& fields) {
    bj::array errors;
    for (const FieldError& field : fields) {
        bj::object row{{"pointer", field.pointer}, {"message", field.message}};
        if (field.line > 0) {
            row["line"] = field.line;
            row["column"] = field.column;
        }
        errors.push_back(std::move(row));
    }
    return errors;
}

Fault fault_of_status(int status) {
    switch (status) {
        case 401:
        case 403:
            return Fault::Denied;
        case 404:
            return Fault::Missing;
        case 409:
            return Fault::Conflict;
        case 408:
        case 429:
            return Fault::Retry;
        default:
            return status >= 400 && status < 500 ? Fault::Rejected : Fault::Retry;
    }
}

std::string text_at(const bj::object& object, std::string_view key) {
    const bj::value* value = object.if_contains(key);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

int number_at(const bj::object& object, std::string_view key) {
    const bj::value* value = object.if_contains(key);
    return value && value->is_int64() ? static_cast<int>(value->get_int64()) : 0;
}

void read_fields(const bj::object& problem, Error& error) {
    const bj::value* errors = problem.if_contains("errors");
    if (errors && errors->is_array()) {
        for (const bj::value& row : errors->get_array()) {
            if (!row.is_object()) continue;
            const bj::object& field = row.get_object();
            error.fields.push_back({text_at(field, "pointer"), text_at(field, "message"),
                                    number_at(field, "line"), number_at(field, "column")});
        }
    }
    const bj::value* actions = problem.if_contains("next_actions");
    if (actions && actions->is_array()) {
        for (const bj::value& action : actions->get_array())
            if (action.is_string()) error.next_actions.emplace_back(action.get_string());
    }
}

}  // namespace

std::optional<std::string_view> Request::header(std::string_view lower_case_name) const {
    for (const auto& [name, value] : headers)
        if (name == lower_case_name) return value;
    return std::nullopt;
}

std::string Request::query_or(const std::string& name, std::string fallback) const {
    const auto found = query.find(name);
    return found == query.end() ? std::move(fallback) : found->second;
}

std::string encoded(std::string_view text) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string out;
    for (char c : text) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
        const auto byte = static_cast<unsigned char>(c);
        if (plain)
            out += c;
        else
            out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
    return out;
}

Response json_response(int status, const bj::value& body) {
    return {.status = status,
            .headers = {{"content-type", "application/json"}},
            .body = bj::serialize(body),
            .stream = {}};
}

int status_of(const Error& error) {
    const auto* row = std::ranges::find(kStatuses, error.slug, &SlugStatus::slug);
    return row == kStatuses.end() ? general_status(error.fault) : row->status;
}

Response problem_response(const Error& error) {
    const std::string slug =
        error.slug.empty() ? std::string(general_slug(error.fault)) : error.slug;
    const int status = status_of(error);
    std::string title = slug;
    std::ranges::replace(title, '-', ' ');
    std::string detail = error.doing;
    if (!detail.empty() && !error.cause.empty()) detail += ": ";
    detail += error.cause;
    bj::object problem{{"type", std::string(kTypePrefix) + slug},
                       {"title", title},
                       {"status", status},
                       {"detail", detail}};
    if (!error.instance.empty()) problem["instance"] = error.instance;
    if (!error.fields.empty()) problem["errors"] = field_array(error.fields);
    if (!error.next_actions.empty()) problem["next_actions"] = bj::value_from(error.next_actions);
    Response response = json_response(status, bj::value(std::move(problem)));
    response.headers = {{"content-type", "application/problem+json"}};
    if (status == 401) response.headers.emplace_back("www-authenticate", "Bearer");
    return response;
}

Error error_of(const Response& response, std::string doing) {
    Error error{.fault = fault_of_status(response.status),
                .doing = std::move(doing),
                .cause = "status " + std::to_string(response.status)};
    Result<bj::value> body = json::parse(response.body, "problem");
    if (!body || !body->is_object()) return error;
    const bj::object& problem = body->get_object();
    const std::string type = text_at(problem, "type");
    const std::size_t cut = type.find_last_of(":/");
    error.slug = cut == type.npos ? type : type.substr(cut + 1);
    const std::string detail = text_at(problem, "detail");
    if (!detail.empty()) error.cause = detail;
    error.instance = text_at(problem, "instance");
    read_fields(problem, error);
    return error;
}

}  // namespace godwit::http
