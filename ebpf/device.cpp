// Generic netlink, family "netdev" (Documentation/netlink/specs/netdev.yaml), which the headers of Debian 12 do not
// know yet. Two questions: the family's number, and the features of one device.
#include "ebpf/device.hpp"

#include "ebpf/maps.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <vector>

namespace godwit::ebpf {
namespace {

constexpr std::uint8_t kDevGet = 1;             // NETDEV_CMD_DEV_GET
constexpr std::uint16_t kDevIfindex = 1;        // NETDEV_A_DEV_IFINDEX
constexpr std::uint16_t kDevXdpFeatures = 3;    // NETDEV_A_DEV_XDP_FEATURES
constexpr std::uint64_t kSendsPieces = 1 << 6;  // NETDEV_XDP_ACT_NDO_XMIT_SG

using Bytes = std::vector<std::uint8_t>;

struct Question {
    std::uint16_t family;
    std::uint8_t command, version;
    std::uint16_t attribute;
    std::span<const std::uint8_t> value;
};

Bytes message_of(const Question& question) {
    const std::size_t payload = NLMSG_LENGTH(GENL_HDRLEN) + NLA_HDRLEN + question.value.size();
    Bytes message(NLMSG_ALIGN(payload));
    const nlmsghdr header{static_cast<std::uint32_t>(message.size()), question.family,
                          NLM_F_REQUEST, 1, 0};
    const genlmsghdr generic{question.command, question.version, 0};
    const nlattr attribute{static_cast<std::uint16_t>(NLA_HDRLEN + question.value.size()),
                           question.attribute};
    std::memcpy(message.data(), &header, sizeof(header));
    std::memcpy(&message[NLMSG_HDRLEN], &generic, sizeof(generic));
    std::memcpy(&message[NLMSG_HDRLEN + GENL_HDRLEN], &attribute, sizeof(attribute));
    std::memcpy(&message[NLMSG_HDRLEN + GENL_HDRLEN + NLA_HDRLEN], question.value.data(),
                question.value.size());
    return message;
}

// The attribute `wanted` of the answer; empty: it says none, or an error.
Bytes attribute_of(std::span<const std::uint8_t> answer, std::uint16_t wanted) {
    nlmsghdr header{};
    if (answer.size() < NLMSG_HDRLEN + GENL_HDRLEN) return {};
    std::memcpy(&header, answer.data(), sizeof(header));
    if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_len > answer.size()) return {};
    for (std::size_t at = NLMSG_HDRLEN + GENL_HDRLEN; at + NLA_HDRLEN <= header.nlmsg_len;) {
        nlattr attribute{};
        std::memcpy(&attribute, &answer[at], sizeof(attribute));
        if (attribute.nla_len < NLA_HDRLEN || at + attribute.nla_len > header.nlmsg_len) return {};
        if ((attribute.nla_type & NLA_TYPE_MASK) == wanted)
            return Bytes(&answer[at] + NLA_HDRLEN, &answer[at] + attribute.nla_len);
        at += NLA_ALIGN(attribute.nla_len);
    }
    return {};
}

Bytes ask(int socket, const Question& question, std::uint16_t wanted) {
    const Bytes message = message_of(question);
    std::array<std::uint8_t, 8192> answer;
    if (send(socket, message.data(), message.size(), 0) < 0) return {};
    const ssize_t length = recv(socket, answer.data(), answer.size(), 0);
    if (length <= 0) return {};
    return attribute_of(std::span(answer).first(static_cast<std::size_t>(length)), wanted);
}

template <typename Number>
std::optional<Number> number_of(const Bytes& bytes) {
    Number number{};
    if (bytes.size() != sizeof(number)) return std::nullopt;
    std::memcpy(&number, bytes.data(), sizeof(number));
    return number;
}

template <typename Value>
std::span<const std::uint8_t> bytes_of(const Value& value) {
    return {reinterpret_cast<const std::uint8_t*>(&value), sizeof(value)};
}

}  // namespace

bool takes_pieces(unsigned ifindex) {
    const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
    if (!socket) return false;
    const char name[] = "netdev";
    const Question who{GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, CTRL_ATTR_FAMILY_NAME, bytes_of(name)};
    const auto family = number_of<std::uint16_t>(ask(socket.get(), who, CTRL_ATTR_FAMILY_ID));
    if (!family) return false;
    const std::uint32_t device = ifindex;
    const Question what{*family, kDevGet, 1, kDevIfindex, bytes_of(device)};
    const auto features = number_of<std::uint64_t>(ask(socket.get(), what, kDevXdpFeatures));
    return features && (*features & kSendsPieces) != 0;
}

}  // namespace godwit::ebpf
