// Described structs to and from JSON, strictly: unknown, missing, mistyped and out-of-range fields
// are all reported at once, each with its JSON pointer and the fix.
//
//     struct Port { std::string name; std::uint16_t vlan = 0; Role role = Role::uplink;
//                   static constexpr std::string_view kRequired[] = {"name"}; };
//     BOOST_DESCRIBE_STRUCT(Port, (), (name, vlan, role))
//
// A member absent from the document keeps its default unless kRequired names it. Enumerators are
// written with '-' for '_' and without an '_' at the end ("needs_attention" <-> "needs-attention",
// `delete_` <-> "delete"). A std::optional that is empty
// is left out when writing; null reads as empty.
#pragma once

#include "lib/error.hpp"

#include <charconv>
#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <boost/mp11.hpp>

namespace godwit::json {

namespace bj = boost::json;

template <typename T>
concept DescribedStruct = boost::describe::has_describe_members<T>::value && !std::is_union_v<T>;
template <typename T>
concept DescribedEnum = boost::describe::has_describe_enumerators<T>::value;

// Where the reader is ("/ports/0/role"), and every complaint so far.
struct ReadContext {
    std::string pointer;
    std::vector<FieldError> errors;

    void complain(std::string message) { errors.push_back({pointer, std::move(message)}); }
};

// "needs_attention" -> "needs-attention", and back; also used for enum names in texts.
std::string dashed(std::string_view name);
std::string pointer_token(std::string_view key);     // RFC 6901 escapes
std::string_view kind_name(const bj::value& value);  // "a string", "a list", ...
std::string nearest_name(std::string_view wanted, const std::vector<std::string_view>& known);
void complain_unknown_key(ReadContext& context, std::string_view key,
                          const std::vector<std::string_view>& known);
// RFC 8259 text; trailing characters, bad UTF-8 and nesting over 32 are refused (malformed-json) with
// their line and column.
Result<bj::value> parse(std::string_view text, std::string_view doing);

template <typename E>
    requires DescribedEnum<E>
std::string enum_name(E value) {
    const char* name = boost::describe::enum_to_string(value, "?");
    return dashed(name);
}

template <typename E>
    requires DescribedEnum<E>
std::optional<E> enum_value(std::string_view name) {
    std::optional<E> found;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>([&](auto descriptor) {
        if (dashed(descriptor.name) == name) found = descriptor.value;
    });
    return found;
}

template <typename T>
void read(const bj::value& from, T& to, ReadContext& context);
template <typename T>
bj::value to_json(const T& from);

namespace detail {

template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T>
struct IsMap : std::false_type {};
template <typename T>
struct IsMap<std::map<std::string, T>> : std::true_type {};

// Extends the pointer for one child and restores it.
class PointerScope {
public:
    PointerScope(ReadContext& context, std::string_view token)
        : context_(context), length_(context.pointer.size()) {
        context.pointer += "/";
        context.pointer += pointer_token(token);
    }
    ~PointerScope() { context_.pointer.resize(length_); }
    PointerScope(const PointerScope&) = delete;
    PointerScope& operator=(const PointerScope&) = delete;

private:
    ReadContext& context_;
    std::size_t length_;
};

template <typename T>
void read_integer(const bj::value& from, T& to, ReadContext& context) {
    constexpr auto kMin = std::numeric_limits<T>::min();
    constexpr auto kMax = std::numeric_limits<T>::max();
    bool fits = false;
    if (from.is_int64()) {
        fits = std::in_range<T>(from.get_int64());
        if (fits) to = static_cast<T>(from.get_int64());
    } else if (from.is_uint64()) {
        fits = std::in_range<T>(from.get_uint64());
        if (fits) to = static_cast<T>(from.get_uint64());
    } else {
        context.complain("is " + std::string(kind_name(from)) + ", expected a whole number");
        return;
    }
    if (!fits)
        context.complain("is out of range, expected " + std::to_string(kMin) + " to " +
                         std::to_string(kMax));
}

template <typename T>
void read_enum(const bj::value& from, T& to, ReadContext& context) {
    std::string all;
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<T>>([&](auto descriptor) {
        if (!all.empty()) all += ", ";
        all += dashed(descriptor.name);
    });
    if (!from.is_string()) {
        context.complain("is " + std::string(kind_name(from)) + ", expected one of: " + all);
        return;
    }
    std::optional<T> value = enum_value<T>(std::string_view(from.get_string()));
    if (value)
        to = *value;
    else
        context.complain("\"" + std::string(from.get_string()) + "\" is not one of: " + all);
}

template <typename T>
std::vector<std::string_view> member_names() {
    std::vector<std::string_view> names;
    using Members = boost::describe::describe_members<T, boost::describe::mod_any_access |
                                                             boost::describe::mod_inherited>;
    boost::mp11::mp_for_each<Members>([&](auto member) { names.emplace_back(member.name); });
    return names;
}

template <typename T>
bool is_required(std::string_view name) {
    if constexpr (requires { T::kRequired; }) {
        for (std::string_view required : T::kRequired)
            if (required == name) return true;
    }
    return false;
}

template <typename T>
void read_struct(const bj::value& from, T& to, ReadContext& context) {
    if (!from.is_object()) {
        context.complain("is " + std::string(kind_name(from)) + ", expected a mapping");
        return;
    }
    const bj::object& object = from.get_object();
    using Members = boost::describe::describe_members<T, boost::describe::mod_any_access |
                                                             boost::describe::mod_inherited>;
    const std::vector<std::string_view> names = member_names<T>();
    for (const auto& pair : object) {
        bool known = false;
        for (std::string_view name : names) known = known || name == std::string_view(pair.key());
        if (!known) complain_unknown_key(context, pair.key(), names);
    }
    boost::mp11::mp_for_each<Members>([&](auto member) {
        const bj::value* value = object.if_contains(member.name);
        PointerScope scope(context, member.name);
        if (value)
            read(*value, to.*member.pointer, context);
        else if (is_required<T>(member.name))
            context.complain("is missing");
    });
}

}  // namespace detail

template <typename T>
void read(const bj::value& from, T& to, ReadContext& context) {
    if constexpr (std::same_as<T, bj::value>) {
        to = from;
    } else if constexpr (std::same_as<T, bool>) {
        if (from.is_bool())
            to = from.get_bool();
        else
            context.complain("is " + std::string(kind_name(from)) + ", expected true or false");
    } else if constexpr (std::integral<T>) {
        detail::read_integer(from, to, context);
    } else if constexpr (std::floating_point<T>) {
        if (from.is_number())
            to = from.to_number<T>();
        else
            context.complain("is " + std::string(kind_name(from)) + ", expected a number");
    } else if constexpr (std::same_as<T, std::string>) {
        if (from.is_string())
            to = std::string(from.get_string());
        else
            context.complain("is " + std::string(kind_name(from)) +
                             ", expected a string (quote it)");
    } else if constexpr (detail::IsOptional<T>::value) {
        if (from.is_null()) {
            to.reset();
        } else {
            typename T::value_type value{};
            read(from, value, context);
            to = std::move(value);
        }
    } else if constexpr (detail::IsVector<T>::value) {
        if (!from.is_array()) {
            context.complain("is " + std::string(kind_name(from)) + ", expected a list");
            return;
        }
        to.clear();
        for (const bj::value& item : from.get_array()) {
            detail::PointerScope scope(context, std::to_string(to.size()));
            typename T::value_type value{};
            read(item, value, context);
            to.push_back(std::move(value));
        }
    } else if constexpr (detail::IsMap<T>::value) {
        if (!from.is_object()) {
            context.complain("is " + std::string(kind_name(from)) + ", expected a mapping");
            return;
        }
        to.clear();
        for (const auto& pair : from.get_object()) {
            detail::PointerScope scope(context, pair.key());
            read(pair.value(), to[std::string(pair.key())], context);
        }
    } else if constexpr (DescribedEnum<T>) {
        detail::read_enum(from, to, context);
    } else {
        static_assert(DescribedStruct<T>, "describe the type with BOOST_DESCRIBE_STRUCT");
        detail::read_struct(from, to, context);
    }
}

// Reads a whole document; a Rejected error carries every field at fault.
template <typename T>
Result<T> from_json(const bj::value& from, std::string_view doing) {
    T to{};
    ReadContext context;
    read(from, to, context);
    if (context.errors.empty()) return to;
    Error error{Fault::Rejected, std::string(doing), "the document has errors", "invalid-document"};
    error.fields = std::move(context.errors);
    return std::unexpected(std::move(error));
}

template <typename T>
Result<T> from_text(std::string_view text, std::string_view doing) {
    Result<bj::value> document = parse(text, doing);
    if (!document) return std::unexpected(std::move(document).error());
    return from_json<T>(*document, doing);
}

template <typename T>
bj::value to_json(const T& from) {
    if constexpr (std::same_as<T, bj::value> || std::same_as<T, bj::object> ||
                  std::same_as<T, bj::array> || std::integral<T> || std::floating_point<T>) {
        return bj::value(from);
    } else if constexpr (std::same_as<T, std::string>) {
        return bj::value(from);
    } else if constexpr (detail::IsOptional<T>::value) {
        return from ? to_json(*from) : bj::value(nullptr);
    } else if constexpr (detail::IsVector<T>::value) {
        bj::array array;
        for (const auto& item : from) array.push_back(to_json(item));
        return array;
    } else if constexpr (detail::IsMap<T>::value) {
        bj::object object;
        for (const auto& [key, value] : from) object[key] = to_json(value);
        return object;
    } else if constexpr (DescribedEnum<T>) {
        return bj::value(enum_name(from));
    } else {
        static_assert(DescribedStruct<T>, "describe the type with BOOST_DESCRIBE_STRUCT");
        bj::object object;
        using Members = boost::describe::describe_members<T, boost::describe::mod_any_access |
                                                                 boost::describe::mod_inherited>;
        boost::mp11::mp_for_each<Members>([&](auto member) {
            using Member = std::remove_cvref_t<decltype(from.*member.pointer)>;
            if constexpr (detail::IsOptional<Member>::value) {
                if (!(from.*member.pointer)) return;
            }
            object[member.name] = to_json(from.*member.pointer);
        });
        return object;
    }
}

template <typename T>
std::string to_text(const T& from) {
    return bj::serialize(to_json(from));
}

}  // namespace godwit::json
