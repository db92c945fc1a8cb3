#include "ebpf/netlink.hpp"

#include "ebpf/maps.hpp"

#include <algorithm>
#include <cerrno>
#include <net/if.h>
#include <sys/socket.h>

namespace godwit::ebpf {

LinkRequest::LinkRequest(std::uint16_t type, std::uint16_t flags, const ifinfomsg& link)
    : bytes_(NLMSG_LENGTH(sizeof(link))) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    std::memcpy(bytes_.data(), &header, sizeof(header));
    std::memcpy(bytes_.data() + NLMSG_HDRLEN, &link, sizeof(link));
}

void LinkRequest::add(std::uint16_t type, std::span<const std::uint8_t> bytes) {
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
    const std::size_t at = bytes_.size();
    const rtattr header{static_cast<std::uint16_t>(RTA_LENGTH(bytes.size())), type};
    bytes_.resize(at + RTA_SPACE(bytes.size()));
    std::memcpy(bytes_.data() + at, &header, sizeof(header));
    if (!bytes.empty()) std::memcpy(bytes_.data() + at + RTA_LENGTH(0), bytes.data(), bytes.size());
}

void LinkRequest::add_text(std::uint16_t type, const std::string& text) {
    add(type, {reinterpret_cast<const std::uint8_t*>(text.c_str()), text.size() + 1});
}

std::size_t LinkRequest::begin_nest(std::uint16_t type) {
    add(type, {});
    return bytes_.size() - RTA_LENGTH(0);
}

void LinkRequest::end_nest(std::size_t begun) {
    const auto length = static_cast<std::uint16_t>(bytes_.size() - begun);
    std::memcpy(bytes_.data() + begun, &length, sizeof(length));
}

Result<std::vector<std::uint8_t>> LinkRequest::exchange(const std::string& doing) {
    const auto length = static_cast<std::uint32_t>(bytes_.size());
    std::memcpy(bytes_.data(), &length, sizeof(length));
    const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!socket) return fail_errno(Fault::Retry, doing + ": open a netlink socket");
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (sendto(socket.get(), bytes_.data(), bytes_.size(), 0, reinterpret_cast<sockaddr*>(&kernel),
               sizeof(kernel)) < 0)
        return fail_errno(Fault::Retry, doing);
    std::vector<std::uint8_t> answer(32768);
    const ssize_t got = recv(socket.get(), answer.data(), answer.size(), 0);
    if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) return fail_errno(Fault::Retry, doing);
    answer.resize(static_cast<std::size_t>(got));
    nlmsghdr header{};
    std::memcpy(&header, answer.data(), sizeof(header));
    if (header.nlmsg_type != NLMSG_ERROR) return answer;
    nlmsgerr error{};
    if (answer.size() >= NLMSG_LENGTH(sizeof(error)))
        std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof(error));
    if (error.error == 0) return answer;
    errno = -error.error;
    return fail_errno(error.error == -EEXIST ? Fault::Conflict : Fault::Rejected, doing);
}

Result<void> LinkRequest::send(const std::string& doing) {
    Result<std::vector<std::uint8_t>> answer = exchange(doing);
    if (!answer) return std::unexpected(std::move(answer).error());
    return {};
}

Result<std::vector<std::uint8_t>> LinkRequest::ask(const std::string& doing) {
    return exchange(doing);
}

std::optional<std::span<const std::uint8_t>> attribute(std::span<const std::uint8_t> row,
                                                       std::uint16_t type) {
    while (row.size() >= sizeof(rtattr)) {
        rtattr header{};
        std::memcpy(&header, row.data(), sizeof(header));
        if (header.rta_len < sizeof(header) || header.rta_len > row.size()) return std::nullopt;
        if ((header.rta_type & NLA_TYPE_MASK) == type)
            return row.subspan(RTA_LENGTH(0), header.rta_len - RTA_LENGTH(0));
        const std::size_t next = RTA_ALIGN(header.rta_len);
        if (next >= row.size()) return std::nullopt;
        row = row.subspan(next);
    }
    return std::nullopt;
}

Result<LinkRow> read_link(std::uint32_t ifindex, const std::string& name) {
    LinkRow link;
    link.about.ifi_index = static_cast<int>(ifindex);
    Result<std::vector<std::uint8_t>> answer =
        LinkRequest(RTM_GETLINK, 0, link.about).ask("look at " + name);
    if (!answer) return std::unexpected(std::move(answer).error());
    if (answer->size() < NLMSG_LENGTH(sizeof(ifinfomsg))) return link;
    std::memcpy(&link.about, answer->data() + NLMSG_HDRLEN, sizeof(link.about));
    const std::size_t begins =
        std::min(answer->size(), std::size_t{NLMSG_SPACE(sizeof(ifinfomsg))});
    link.attributes.assign(answer->begin() + static_cast<std::ptrdiff_t>(begins), answer->end());
    return link;
}

Result<std::uint32_t> master_of(const std::string& interface) {
    const std::uint32_t ifindex = if_nametoindex(interface.c_str());
    if (ifindex == 0) return fail_errno(Fault::Rejected, "interface " + interface);
    Result<LinkRow> link = read_link(ifindex, interface);
    if (!link) return std::unexpected(std::move(link).error());
    return number_of<std::uint32_t>(attribute(link->attributes, IFLA_MASTER));
}

}  // namespace godwit::ebpf
