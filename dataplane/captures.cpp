#include "dataplane/captures.hpp"

#include "lib/id.hpp"

#include "dataplane/names.hpp"

#include <algorithm>
#include <charconv>
#include <time.h>

namespace godwit::dataplane {
namespace {

constexpr std::size_t kQueueMax = 2048;
constexpr auto kUnreadFor = std::chrono::seconds(10);
constexpr std::uint32_t kCountMax = 1'000'000, kSecondsMax = 3600, kSnapMin = 14;

std::uint64_t monotonic_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

// RFC 4648, with padding.
std::string base64(std::span<const std::uint8_t> bytes) {
    static constexpr char kLetters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t word = 0;
        const std::size_t some = std::min<std::size_t>(3, bytes.size() - at);
        for (std::size_t i = 0; i < 3; ++i) word = word << 8 | (i < some ? bytes[at + i] : 0u);
        for (std::size_t i = 0; i < 4; ++i)
            text += i <= some ? kLetters[word >> (18 - 6 * i) & 63] : '=';
    }
    return text;
}

struct End {
    HostedAddress address;  // all zero: any
    std::uint16_t port = 0;
};

// "10.1.0.1:80", "[fd00::1]:80", "10.1.0.1", "fd00::1", ":80".
std::optional<End> parse_end(const std::string& text) {
    End end;
    std::string host = text, port;
    const std::size_t colon = text.rfind(':');
    const bool bracketed = text.starts_with('[');
    if (bracketed) {
        const std::size_t close = text.find(']');
        if (close == text.npos) return std::nullopt;
        host = text.substr(1, close - 1);
        if (close + 1 < text.size() && text[close + 1] != ':') return std::nullopt;
        if (close + 1 < text.size()) port = text.substr(close + 2);
        if (close + 2 == text.size()) return std::nullopt;
    } else if (colon != text.npos && text.find(':') == colon) {
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
        if (port.empty()) return std::nullopt;
    }
    if (host.empty() && (port.empty() || bracketed)) return std::nullopt;
    if (!host.empty()) {
        Result<HostedAddress> address = parse_any_address(host);
        if (!address) return std::nullopt;
        end.address = *address;
    }
    if (port.empty()) return end;
    const auto [last, error] = std::from_chars(port.data(), port.data() + port.size(), end.port);
    if (error != std::errc{} || last != port.data() + port.size() || end.port == 0)
        return std::nullopt;
    return end;
}

void check_range(std::uint32_t value, std::uint32_t least, std::uint32_t most, const char* pointer,
                 std::vector<FieldError>& errors) {
    if (value < least || value > most)
        errors.push_back(
            {pointer, "expected " + std::to_string(least) + " to " + std::to_string(most)});
}

void read_ends(const std::vector<std::string>& ends, steer_capture& into,
               std::vector<FieldError>& errors) {
    if (ends.size() > 2) errors.push_back({"/ends", "a session has two ends"});
    for (std::size_t i = 0; i < std::min<std::size_t>(ends.size(), 2); ++i) {
        const std::optional<End> end = parse_end(ends[i]);
        if (!end) {
            errors.push_back({"/ends/" + std::to_string(i),
                              "\"" + ends[i] +
                                  "\" is no end of a session; write one like 10.1.0.10:80, "
                                  "[fd00::10]:80, 10.0.0.9 or :443"});
            continue;
        }
        std::ranges::copy(end->address.words_be, into.address[i]);
        into.port[i] = end->port;
    }
}

http::Event gap_event(std::uint64_t lost) {
    return {{}, "gap", json::to_text(protocol::FlowGap{lost, "reader"})};
}

}  // namespace

Result<steer_capture> narrow(const protocol::CaptureRequest& request, std::uint16_t vm) {
    Error error{Fault::Rejected, "capture", "", "invalid-document"};
    steer_capture narrowed{};
    narrowed.vm = vm;
    narrowed.snap = request.snap;
    if (!request.protocol.empty()) {
        const std::optional<std::uint8_t> number = protocol_number(request.protocol);
        narrowed.protocol = number.value_or(0);
        if (!number || *number == 0)
            error.fields.push_back(
                {"/protocol", "\"" + request.protocol +
                                  "\" is no IP protocol; known are tcp, udp, icmp, "
                                  "icmpv6, sctp and the numbers 1 to 255"});
    }
    read_ends(request.ends, narrowed, error.fields);
    if (request.vm.empty() && request.ends.empty())
        error.fields.push_back(
            {"/ends", "name a VM or an end: a capture of everything is refused"});
    check_range(request.count, 1, kCountMax, "/count", error.fields);
    check_range(request.seconds, 1, kSecondsMax, "/seconds", error.fields);
    check_range(request.snap, kSnapMin, STEER_SNAP_MAX, "/snap", error.fields);
    if (error.fields.empty()) return narrowed;
    error.cause = error.fields.front().message;
    return std::unexpected(std::move(error));
}

Captures::Captures(boost::asio::any_io_executor executor, steer_watch* watch, Clock& clock)
    : executor_(std::move(executor)), watch_(watch), clock_(clock) {}

// Nobody's, or one that has ended and was never read.
std::optional<std::size_t> Captures::free_place() {
    for (std::size_t i = 0; i < running_.size(); ++i)
        if (!running_[i] || (running_[i]->is_over && !running_[i]->is_read)) return i;
    return std::nullopt;
}

Result<protocol::Capture> Captures::begin(const protocol::CaptureRequest& request,
                                          std::uint16_t vm) {
    Result<steer_capture> narrowed = narrow(request, vm);
    if (!narrowed) return std::unexpected(std::move(narrowed).error());
    const std::optional<std::size_t> place = free_place();
    if (!place)
        return fail(Fault::Conflict, "capture",
                    "this switch runs " + std::to_string(STEER_CAPTURES) +
                        " captures already, and that is the most",
                    "too-many-captures");
    Running running;
    running.id = new_id("c-", clock_.now());
    running.request = request;
    running.queue = std::make_shared<http::EventQueue>(executor_, kQueueMax, gap_event);
    running.until = clock_.steady() + std::chrono::seconds(request.seconds);
    running.since_ns = monotonic_ns();
    // The snap length is what packets look at: it comes last.
    steer_capture& armed = watch_->capture[*place];
    armed = {};
    narrowed->left = static_cast<std::int32_t>(request.count);
    const std::uint32_t snap = std::exchange(narrowed->snap, 0);
    armed = *narrowed;
    steer_publish32(&armed.snap, snap);
    running_[*place] = std::move(running);
    return protocol::Capture{running_[*place]->id, request};
}

Result<std::size_t> Captures::find(const std::string& id) const {
    for (std::size_t i = 0; i < running_.size(); ++i)
        if (running_[i] && running_[i]->id == id) return i;
    return fail(Fault::Missing, "capture " + id, "there is none, or it has ended",
                "unknown-capture");
}

Result<http::Response> Captures::frames(const std::string& id) {
    Result<std::size_t> at = find(id);
    if (!at) return std::unexpected(std::move(at).error());
    Running& running = *running_[*at];
    if (running.is_read)
        return fail(Fault::Conflict, "capture " + id, "somebody reads it already", "capture-read");
    running.is_read = true;
    http::Response response;
    response.stream = [queue = running.queue](std::shared_ptr<http::EventSink> sink) {
        return http::EventQueue::serve(queue, std::move(sink));
    };
    if (running.is_over) running_[*at].reset();
    return response;
}

Result<void> Captures::stop(const std::string& id) {
    Result<std::size_t> at = find(id);
    if (!at) return std::unexpected(std::move(at).error());
    if (!running_[*at]->is_over) end(*at, "stopped");
    return {};
}

bool Captures::is_active() const {
    return std::ranges::any_of(running_, [](const auto& one) { return one && !one->is_over; });
}

void Captures::take(const steer_flow& record, std::span<const std::uint8_t> bytes,
                    const protocol::FlowRow& row, std::uint64_t time_ns) {
    for (std::size_t i = 0; i < running_.size(); ++i) {
        std::optional<Running>& running = running_[i];
        const bool wants = record.wanted >> i & 1 && running && !running->is_over &&
                           record.time_ns >= running->since_ns;
        if (!wants) continue;
        const auto some = bytes.first(std::min<std::size_t>(bytes.size(), running->request.snap));
        running->queue->push(
            {{},
             "frame",
             json::to_text(protocol::CapturedFrame{time_ns, record.length, base64(some), row})});
        if (++running->frames == running->request.count) end(i, "count");
    }
}

void Captures::end(std::size_t index, const std::string& why) {
    Running& running = *running_[index];
    steer_capture& armed = watch_->capture[index];
    steer_publish32(&armed.snap, 0);
    const std::uint64_t lost = running.queue->lost() + steer_load32(&armed.lost);
    const protocol::CaptureEnd said{why, running.frames - running.queue->lost(), lost};
    running.queue->close({{}, "end", json::to_text(said)});
    running.is_over = true;
    running.until = clock_.steady() + kUnreadFor;
    if (running.is_read) running_[index].reset();
}

void Captures::look() {
    for (std::size_t i = 0; i < running_.size(); ++i) {
        if (!running_[i]) continue;
        Running& running = *running_[i];
        const bool deserted = running.is_read && running.queue.use_count() == 1;
        const bool late = clock_.steady() >= running.until;
        if (running.is_over && late)
            running_[i].reset();
        else if (!running.is_over && (late || deserted))
            end(i, deserted ? "stopped" : "time");
    }
}

void Captures::close() {
    for (std::size_t i = 0; i < running_.size(); ++i)
        if (running_[i] && !running_[i]->is_over) end(i, "stopped");
}

}  // namespace godwit::dataplane
