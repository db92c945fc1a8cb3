// OpenAPI 3.1 out of what the program really does: the route table and the described structs.
#pragma once

#include "lib/http/server.hpp"
#include "lib/json.hpp"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace godwit::controller::openapi {

using Schemas = json::bj::object;

template <typename T>
json::bj::value schema_of(Schemas& named);

namespace detail {

template <typename T>
std::string type_name() {
    const std::string_view full = __PRETTY_FUNCTION__;  // "... [T = godwit::protocol::Job]"
    const std::size_t end = full.rfind(']');
    const std::size_t colon = full.rfind(':', end);
    return std::string(full.substr(colon + 1, end - colon - 1));
}

template <typename T>
json::bj::value enum_schema() {
    json::bj::array names;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>(
        [&](auto enumerator) { names.emplace_back(json::dashed(enumerator.name)); });
    return json::bj::object{{"type", "string"}, {"enum", std::move(names)}};
}

template <typename T>
void add_struct(Schemas& named, const std::string& name) {
    named[name] = nullptr;  // a struct that holds itself ends here
    json::bj::object properties;
    using Members = boost::describe::describe_members<T, boost::describe::mod_any_access |
                                                             boost::describe::mod_inherited>;
    boost::mp11::mp_for_each<Members>([&](auto member) {
        using Member = std::remove_cvref_t<decltype(std::declval<T>().*member.pointer)>;
        properties[member.name] = schema_of<Member>(named);
    });
    json::bj::object schema{
        {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
    if constexpr (requires { T::kRequired; }) {
        json::bj::array required;
        for (std::string_view field : T::kRequired) required.emplace_back(field);
        schema["required"] = std::move(required);
    }
    named[name] = std::move(schema);
}

}  // namespace detail

// The schema in place, or a reference to one put into `named`.
template <typename T>
json::bj::value schema_of(Schemas& named) {
    if constexpr (std::same_as<T, json::bj::value>) {
        return json::bj::object{};
    } else if constexpr (std::same_as<T, bool>) {
        return json::bj::object{{"type", "boolean"}};
    } else if constexpr (std::integral<T>) {
        json::bj::object schema{{"type", "integer"}};
        if constexpr (std::is_unsigned_v<T>) schema["minimum"] = 0;
        return schema;
    } else if constexpr (std::floating_point<T>) {
        return json::bj::object{{"type", "number"}};
    } else if constexpr (std::same_as<T, std::string>) {
        return json::bj::object{{"type", "string"}};
    } else if constexpr (json::detail::IsOptional<T>::value) {
        return schema_of<typename T::value_type>(named);
    } else if constexpr (json::detail::IsVector<T>::value) {
        return json::bj::object{{"type", "array"},
                                {"items", schema_of<typename T::value_type>(named)}};
    } else if constexpr (json::detail::IsMap<T>::value) {
        return json::bj::object{
            {"type", "object"},
            {"additionalProperties", schema_of<typename T::mapped_type>(named)}};
    } else if constexpr (json::DescribedEnum<T>) {
        return detail::enum_schema<T>();
    } else {
        const std::string name = detail::type_name<T>();
        if (!named.contains(name)) detail::add_struct<T>(named, name);
        return json::bj::object{{"$ref", "#/components/schemas/" + name}};
    }
}

using SchemaFunction = json::bj::value (*)(Schemas&);

struct Operation {
    std::string method, pattern, summary;
    http::Access access;
    int status = 200;
    SchemaFunction request = nullptr;   // null: no body
    SchemaFunction response = nullptr;  // null: no body
    std::vector<std::string> query;     // names of optional query parameters
    bool makes_job = false;             // takes Idempotency-Key
    bool streams = false;
};

json::bj::value document(const std::vector<Operation>& operations);

}  // namespace godwit::controller::openapi
