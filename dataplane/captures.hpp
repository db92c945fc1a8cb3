// Captures of single sessions: at most STEER_CAPTURES at once, each bounded in frames, time and bytes. Who may have
// one is the controller's business; the switch serves peers.
#pragma once

#include "lib/clock.hpp"
#include "lib/http/event_queue.hpp"

#include "dataplane/flow_row.hpp"

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace godwit::dataplane {

// What the plane is told of a request, but for its count. Rejected `invalid-document` with every wrong field.
Result<steer_capture> narrow(const protocol::CaptureRequest& request, std::uint16_t vm);

class Captures {
public:
    // `clock` outlives the captures, and so does `watch` while there is one: a plane without a tap has none.
    Captures(boost::asio::any_io_executor executor, steer_watch* watch, Clock& clock);

    // `vm`: the number of request.vm, or STEER_FLOW_NO_VM. Conflict `too-many-captures`.
    Result<protocol::Capture> begin(const protocol::CaptureRequest& request, std::uint16_t vm);
    // The stream of its frames. When its reader goes, the capture ends. Missing `unknown-capture`; Conflict
    // `capture-read`: somebody reads it already.
    Result<http::Response> frames(const std::string& id);
    Result<void> stop(const std::string& id);

    bool is_active() const;
    // A record that captures wanted, with its bytes.
    void take(const steer_flow& record, std::span<const std::uint8_t> bytes,
              const protocol::FlowRow& row, std::uint64_t time_ns);
    // Ends what has had its time or has lost its reader.
    void look();
    void close();

private:
    struct Running {
        std::string id;
        protocol::CaptureRequest request;
        std::shared_ptr<http::EventQueue> queue;
        std::chrono::steady_clock::time_point until;
        std::uint64_t since_ns = 0;  // the plane's clock: older records are an earlier capture's
        std::uint64_t frames = 0;
        bool is_read = false;
        bool is_over = false;  // what is queued waits for its reader a little longer
    };
    void end(std::size_t index, const std::string& why);
    Result<std::size_t> find(const std::string& id) const;
    std::optional<std::size_t> free_place();

    boost::asio::any_io_executor executor_;
    steer_watch* watch_;
    Clock& clock_;
    std::array<std::optional<Running>, STEER_CAPTURES> running_;
};

}  // namespace godwit::dataplane
