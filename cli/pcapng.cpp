#include "cli/pcapng.hpp"

#include "lib/pcapng.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace godwit::cli {

namespace {

using namespace pcapng;

void time_of(Block& block, std::uint64_t time_ns) {
    block.number(static_cast<std::uint32_t>(time_ns >> 32));
    block.number(static_cast<std::uint32_t>(time_ns));
}

std::string comment_of(const protocol::FlowRow& flow) {
    const std::string to = flow.out_port.empty() ? "" : " to " + flow.out_port;
    return flow.verdict + to + ": " + flow.reason;
}

int value_of(char letter) {
    static constexpr std::string_view kLetters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const std::size_t at = kLetters.find(letter);
    return at == kLetters.npos ? -1 : static_cast<int>(at);
}

}  // namespace

std::optional<std::vector<std::uint8_t>> from_base64(const std::string& text) {
    std::vector<std::uint8_t> bytes;
    if (text.size() % 4 != 0) return std::nullopt;
    std::uint32_t word = 0;
    const std::size_t end = text.find('=');
    const std::size_t letters = std::min(end, text.size());
    if (letters % 4 == 1 || text.size() - letters > 2 ||
        text.find_first_not_of('=', letters) != text.npos)
        return std::nullopt;
    for (std::size_t i = 0; i < letters; ++i) {
        const int value = value_of(text[i]);
        if (value < 0) return std::nullopt;
        word = word << 6 | static_cast<std::uint32_t>(value);
        if (i % 4 != 0) bytes.push_back(static_cast<std::uint8_t>(word >> (6 - 2 * (i % 4))));
    }
    return bytes;
}

PcapngFile::PcapngFile(std::FILE* file, std::string path, std::uint32_t snap)
    : file_(file), path_(std::move(path)), snap_(snap) {}
PcapngFile::PcapngFile(PcapngFile&& other) noexcept
    : file_(std::exchange(other.file_, nullptr)),
      path_(std::move(other.path_)),
      snap_(other.snap_),
      interfaces_(std::move(other.interfaces_)),
      last_ns_(other.last_ns_) {}
PcapngFile::~PcapngFile() {
    if (file_ && file_ != stdout) std::fclose(file_);
}

Result<PcapngFile> PcapngFile::create(const std::string& path, std::uint32_t snap) {
    std::FILE* file = stdout;
    if (path != "-") {
        const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0) return fail_errno(Fault::Rejected, "write " + path);
        file = fdopen(fd, "wb");
    }
    PcapngFile made(file, path, snap);
    Block begin = section();
    begin.option(kApplication, "godwit");
    Result<void> written = made.write(begin.done());
    if (!written) return std::unexpected(std::move(written).error());
    return made;
}

Result<void> PcapngFile::write(std::span<const std::uint8_t> block) {
    // Flushed each time: a reader at the other end of a pipe wants to see the frame now.
    if (std::fwrite(block.data(), 1, block.size(), file_) != block.size() ||
        std::fflush(file_) != 0)
        return fail_errno(Fault::Rejected, "write " + path_);
    return {};
}

Result<std::uint32_t> PcapngFile::interface_of(const std::string& port) {
    if (auto known = interfaces_.find(port); known != interfaces_.end()) return known->second;
    Block interface(kInterface);
    interface.number(kEthernet);
    interface.number(std::uint16_t{0});
    interface.number(snap_);
    interface.option(kInterfaceName, port);
    interface.option(kResolution, std::array<std::uint8_t, 1>{9});  // 10^-9 s
    Result<void> written = write(interface.done());
    if (!written) return std::unexpected(std::move(written).error());
    const auto number = static_cast<std::uint32_t>(interfaces_.size());
    interfaces_[port] = number;
    return number;
}

Result<void> PcapngFile::add(const protocol::CapturedFrame& frame) {
    const auto bytes = from_base64(frame.bytes);
    if (!bytes) return fail(Fault::Rejected, "read a captured frame", "its bytes are no base64");
    Result<std::uint32_t> interface = interface_of(frame.flow.switch_id + ":" + frame.flow.in_port);
    if (!interface) return std::unexpected(std::move(interface).error());
    Block packet(kPacket);
    packet.number(*interface);
    time_of(packet, frame.time_ns);
    packet.number(static_cast<std::uint32_t>(bytes->size()));
    packet.number(frame.length);
    packet.padded(*bytes);
    packet.option(kComment, comment_of(frame.flow));
    packet.option(kPacketFlags, std::array<std::uint8_t, 4>{1, 0, 0, 0});  // inbound
    last_ns_ = frame.time_ns;
    return write(packet.done());
}

Result<void> PcapngFile::finish(std::uint64_t lost) {
    if (interfaces_.empty()) return {};
    Block statistics(kStatistics);
    statistics.number(std::uint32_t{0});
    time_of(statistics, last_ns_);
    std::array<std::uint8_t, 8> dropped;
    std::memcpy(dropped.data(), &lost, sizeof(lost));
    statistics.option(kDropped, dropped);
    return write(statistics.done());
}

}  // namespace godwit::cli
