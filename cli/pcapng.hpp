// Captured frames as a pcapng file (draft-ietf-opsawg-pcapng): nanoseconds, a port per interface, and the verdict as
// the packet's comment. Wireshark, tshark and tcpdump read it.
#pragma once

#include "lib/error.hpp"

#include "protocol/flow_api.hpp"

#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace godwit::cli {

// RFC 4648, with padding; nothing when it is not that.
std::optional<std::vector<std::uint8_t>> from_base64(const std::string& text);

class PcapngFile {
public:
    // "-" is stdout. The file is for its owner alone: it holds what users say to each other.
    static Result<PcapngFile> create(const std::string& path, std::uint32_t snap);
    PcapngFile(PcapngFile&& other) noexcept;
    PcapngFile& operator=(PcapngFile&&) = delete;
    ~PcapngFile();

    // Retry when the file cannot be written; Rejected when the frame's bytes are no base64.
    Result<void> add(const protocol::CapturedFrame& frame);
    // The count of frames that are missing, for the reader's statistics.
    Result<void> finish(std::uint64_t lost);

private:
    PcapngFile(std::FILE* file, std::string path, std::uint32_t snap);
    Result<std::uint32_t> interface_of(const std::string& port);
    Result<void> write(std::span<const std::uint8_t> block);

    std::FILE* file_;
    std::string path_;
    std::uint32_t snap_;
    std::map<std::string, std::uint32_t> interfaces_;
    std::uint64_t last_ns_ = 0;
};

}  // namespace godwit::cli
