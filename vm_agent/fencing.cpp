#include "vm_agent/fencing.hpp"

#include "lib/json.hpp"

#include "vm_agent/durable_file.hpp"

namespace godwit::agent {

Result<Fencing> Fencing::open(std::string file) {
    Fencing fencing(std::move(file));
    Result<std::string> text = read_file(fencing.file_);
    if (!text && text.error().fault == Fault::Missing) return fencing;
    if (!text) return std::unexpected(std::move(text).error());
    Result<protocol::Fence> fence =
        json::from_text<protocol::Fence>(*text, "read " + fencing.file_);
    if (!fence) {
        fence.error().fault = Fault::Corrupt;
        return std::unexpected(std::move(fence).error());
    }
    fencing.token_ = fence->token;
    return fencing;
}

Result<void> Fencing::admit(std::uint64_t token) {
    if (token < token_)
        return fail(Fault::Conflict, "admit a command",
                    "its token " + std::to_string(token) + " is below " + std::to_string(token_) +
                        ": another controller has taken over",
                    "stale-epoch");
    if (token == token_) return {};
    Result<void> kept = replace_file(file_, json::to_text(protocol::Fence{token}));
    if (!kept) return std::unexpected(std::move(kept).error().within("keep the fencing token"));
    token_ = token;
    return {};
}

Result<void> Fencing::admit(const protocol::Command& command) {
    if (command.job.empty() || command.job.size() > 64)
        return fail(Fault::Rejected, "admit a command", "/command/job must have 1 to 64 characters",
                    "invalid-document");
    return admit(command.token);
}

}  // namespace godwit::agent
