#include "vm_agent/guest/addresses.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cctype>
#include <optional>
#include <vector>

namespace godwit::guest {

namespace bj = json::bj;

namespace {

struct Held {
    std::string address;
    std::int64_t prefix = 0;
};

struct Interface {
    std::string name;
    std::vector<Held> held;
};

const std::string* text_at(const bj::value& value, std::string_view pointer, std::string& room) {
    boost::system::error_code none;
    const bj::value* found = value.find_pointer(pointer, none);
    if (!found || !found->is_string()) return nullptr;
    room = std::string(found->get_string());
    return &room;
}

// It becomes part of a script.
bool is_plain(const std::string& name) {
    return !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
    });
}

std::vector<Held> held_by(const bj::value& interface) {
    std::vector<Held> held;
    boost::system::error_code none;
    const bj::value* list = interface.find_pointer("/ip-addresses", none);
    if (!list || !list->is_array()) return held;
    for (const bj::value& entry : list->get_array()) {
        std::string address;
        const bj::value* prefix = entry.find_pointer("/prefix", none);
        if (text_at(entry, "/ip-address", address) && prefix && prefix->is_int64())
            held.push_back({address, prefix->get_int64()});
    }
    return held;
}

std::optional<Interface> interface_with(const bj::value& interfaces, const std::string& mac) {
    if (!interfaces.is_array()) return std::nullopt;
    for (const bj::value& one : interfaces.get_array()) {
        std::string said, name;
        if (!text_at(one, "/hardware-address", said) || !text_at(one, "/name", name)) continue;
        const bool same = std::ranges::equal(said, mac, [](unsigned char a, unsigned char b) {
            return std::tolower(a) == std::tolower(b);
        });
        if (same && is_plain(name)) return Interface{name, held_by(one)};
    }
    return std::nullopt;
}

// An IPv6 address has many spellings.
bool same_address(const std::string& a, const std::string& b) {
    for (const int family : {AF_INET, AF_INET6}) {
        std::array<unsigned char, 16> one{}, other{};
        if (inet_pton(family, a.c_str(), one.data()) == 1 &&
            inet_pton(family, b.c_str(), other.data()) == 1)
            return one == other;
    }
    return false;
}

const Held* find(const Interface& interface, const std::string& address) {
    const auto found = std::ranges::find_if(
        interface.held, [&](const Held& held) { return same_address(held.address, address); });
    return found == interface.held.end() ? nullptr : &*found;
}

}  // namespace

Result<std::string> address_script(const bj::value& interfaces, const std::string& mac,
                                   const protocol::AddressRequest& wanted) {
    const std::optional<Interface> interface = interface_with(interfaces, mac);
    if (!interface)
        return fail(Fault::Lost, "look for the interface " + mac, "the guest has none yet",
                    "guest-silent");
    std::string add, remove;
    const std::string on = " dev " + interface->name + "\n";
    for (const std::string& one : wanted.present)
        if (!find(*interface, one.substr(0, one.find('/')))) add += "ip address add " + one + on;
    for (const std::string& one : wanted.absent)
        if (const Held* held = find(*interface, one))
            remove += "ip address del " + one + "/" + std::to_string(held->prefix) + on;
    // Else the second IPv4 address of a network would go with the first.
    if (!remove.empty())
        remove = "echo 1 >/proc/sys/net/ipv4/conf/" + interface->name + "/promote_secondaries\n" +
                 remove;
    if (add.empty() && remove.empty()) return std::string();
    return "set -e\n" + add + remove;
}

}  // namespace godwit::guest
