#include "dataplane/device.hpp"

#include <algorithm>
#include <array>
#include <net/if.h>
#include <sys/un.h>

namespace godwit::dataplane {
namespace {

using Kind = Device::Kind;

struct Form {
    std::string_view word;
    Kind kind;
    std::string_view driver;      // of a virtual device
    std::string_view parameters;  // behind what says where
    std::string_view where;       // the parameter that does
};
// vhost-user: QEMU has the socket and the switch comes to it, so that each
// may be started anew without the other. memif: the switch has the socket.
constexpr std::array<Form, 6> kForms{{
    {"af_packet", Kind::af_packet, "net_af_packet", "", ",iface="},
    {"af_xdp", Kind::af_xdp, "net_af_xdp", "", ",iface="},
    {"tap", Kind::tap, "net_tap", "", ",iface="},
    {"vhost-user", Kind::vhost_user, "net_vhost", ",queues=1,client=1", ",iface="},
    {"memif", Kind::memif, "net_memif", ",role=server,id=0,socket-abstract=no", ",socket="},
    {"pci", Kind::pci, "", "", ""},
}};

const Form& form_of(Kind kind) {
    return *std::ranges::find(kForms, kind, &Form::kind);
}

bool is_hex(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) != 0; });
}

// 0000:01:00.0
bool is_pci_address(std::string_view text) {
    return text.size() == 12 && text[4] == ':' && text[7] == ':' && text[10] == '.' &&
           is_hex(text.substr(0, 4)) && is_hex(text.substr(5, 2)) && is_hex(text.substr(8, 2)) &&
           is_hex(text.substr(11));
}

// What is wrong with `where`; empty: nothing. A comma would begin another parameter.
std::string complaint(Kind kind, std::string_view where) {
    if (where.find_first_of(", \t\n") != where.npos) return "no comma and no space may be in it";
    if (kind == Kind::pci)
        return is_pci_address(where) ? "" : "expected a PCI address, pci:0000:01:00.0";
    if (kind == Kind::vhost_user || kind == Kind::memif) {
        const bool fits = where.size() < sizeof(sockaddr_un::sun_path);
        return where.starts_with('/') && fits ? "" : "expected the path of a socket, from / on";
    }
    const bool fits = !where.empty() && where.size() < IFNAMSIZ;
    return fits ? "" : "expected the name of a network interface, 1 to 15 characters";
}

}  // namespace

std::string Device::name(unsigned number) const {
    if (kind == Kind::pci) return where;
    return std::string(form_of(kind).driver) + std::to_string(number);
}

std::uint32_t Device::ring_frame_bytes() const {
    constexpr std::uint32_t kUsual = 2048, kPage = 4096;
    // The kernel's header and its gap, Ethernet's header, two tags.
    constexpr std::uint32_t kBefore = 66, kEthernet = 14 + 8;
    const std::uint32_t bytes = mtu + kEthernet + kBefore;
    return bytes <= kUsual ? kUsual : (bytes + kPage - 1) / kPage * kPage;
}

std::string Device::argument(unsigned number) const {
    if (kind == Kind::pci) return "--allow=" + where;
    const Form& form = form_of(kind);
    const std::string device = "--vdev=" + name(number) + std::string(form.where) + where;
    if (kind != Kind::af_packet) return device + std::string(form.parameters);
    // Two rings of as many frames as go into 4 MiB, and of 512 where these are long.
    const std::uint32_t bytes = ring_frame_bytes();
    const bool usual = bytes <= 2048;
    return device + ",blocksz=" + std::to_string(usual ? 4096 : bytes) +
           ",framesz=" + std::to_string(bytes) + ",framecnt=" + (usual ? "2048" : "512") +
           ",qpairs=1";
}

Result<Device> parse_device(std::string_view text) {
    const std::size_t colon = text.find(':');
    const std::string_view word = text.substr(0, colon);
    const auto form = std::ranges::find(kForms, word, &Form::word);
    if (colon == text.npos || form == kForms.end())
        return fail(Fault::Rejected, "read a device",
                    "expected af_packet:INTERFACE, af_xdp:INTERFACE, tap:NAME, vhost-user:/PATH, "
                    "memif:/PATH or pci:ADDRESS");
    const std::string_view where = text.substr(colon + 1);
    const std::string wrong = complaint(form->kind, where);
    if (!wrong.empty()) return fail(Fault::Rejected, "read a device", wrong);
    return Device{.kind = form->kind, .where = std::string(where)};
}

}  // namespace godwit::dataplane
