// godwit capture: the frames of one session, or of one VM, into a pcapng file.

#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "cli/pcapng.hpp"

#include <csignal>
#include <memory>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/signal_set.hpp>

namespace godwit::cli {

namespace asio = boost::asio;
namespace bj = json::bj;

namespace {

constexpr auto kSilence = std::chrono::seconds(45);  // three heartbeats
constexpr auto kDeadline = std::chrono::seconds(10);

struct CaptureOptions {
    protocol::CaptureRequest request;
    std::string session, on, file;
    std::vector<std::string> addresses;
    std::vector<std::uint16_t> ports;
};

// "tcp/10.1.0.10:80/10.0.0.9:4000": what `godwit sessions` shows as PROTOCOL, ADDRESS:PORT and PEER.
Result<void> read_session(const std::string& key, protocol::CaptureRequest& request) {
    const std::size_t first = key.find('/'), second = key.find('/', first + 1);
    if (first == key.npos || second == key.npos || key.find('/', second + 1) != key.npos)
        return fail(
            Fault::Rejected, "--session \"" + key + "\"",
            "write it like tcp/10.1.0.10:80/10.0.0.9:4000 or tcp/[fd00::10]:80/[fd00::9]:4000");
    request.protocol = key.substr(0, first);
    request.ends = {key.substr(first + 1, second - first - 1), key.substr(second + 1)};
    return {};
}

std::string end_of(const std::string& address, std::uint16_t port) {
    if (port == 0) return address;
    const bool wide = address.find(':') != address.npos;
    return (wide ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

// The n-th --port belongs to the n-th --ip; one more is the other end's.
Result<protocol::CaptureRequest> request_of(const CaptureOptions& options) {
    protocol::CaptureRequest request = options.request;
    const std::size_t ends = std::max(options.addresses.size(), options.ports.size());
    if (!options.session.empty() && (ends > 0 || !options.request.protocol.empty()))
        return fail(Fault::Rejected, "capture",
                    "--session already says protocol, addresses and ports");
    if (!options.session.empty()) {
        Result<void> read = read_session(options.session, request);
        if (!read) return std::unexpected(std::move(read).error());
    }
    for (std::size_t i = 0; i < ends; ++i)
        request.ends.push_back(end_of(i < options.addresses.size() ? options.addresses[i] : "",
                                      i < options.ports.size() ? options.ports[i] : 0));
    if (request.vm.empty() && request.ends.empty())
        return fail(Fault::Rejected, "capture",
                    "name what: --vm, --session, --ip or --port; everything is too much");
    return request;
}

// --switch, else where the VM is, else the only one there is.
Result<std::string> place_of(Session& session, const CaptureOptions& options) {
    if (!options.on.empty()) return options.on;
    if (!options.request.vm.empty()) {
        Result<bj::value> raw = session.api.get("/v1/vms/" + http::encoded(options.request.vm));
        if (!raw) return std::unexpected(std::move(raw).error());
        Result<protocol::Vm> vm = understood<protocol::Vm>(*raw, "read VM " + options.request.vm);
        if (!vm) return std::unexpected(std::move(vm).error());
        raw = session.api.get("/v1/hosts/" + http::encoded(vm->host));
        if (!raw) return std::unexpected(std::move(raw).error());
        Result<protocol::Host> host = understood<protocol::Host>(*raw, "read host " + vm->host);
        if (!host) return std::unexpected(std::move(host).error());
        return host->switch_id;
    }
    Result<std::vector<std::string>> ids = switch_ids(session, "");
    if (!ids) return std::unexpected(std::move(ids).error());
    if (ids->size() == 1) return ids->front();
    return fail(Fault::Rejected, "capture", "there are several switches: name one with --switch");
}

struct Running {
    PcapngFile file;
    std::string path = {};  // of the capture
    std::optional<protocol::CaptureEnd> end = {};
    std::uint64_t frames = 0, lost = 0;
    Result<void> trouble = {};
    int interrupts = 0;
};

Result<void> take(Running& running, const http::Event& event) {
    Result<bj::value> raw = json::parse(event.data, "read a captured frame");
    if (!raw) return std::unexpected(std::move(raw).error());
    if (event.type == "frame") {
        auto frame = understood<protocol::CapturedFrame>(*raw, "read a captured frame");
        if (!frame) return std::unexpected(std::move(frame).error());
        ++running.frames;
        return running.file.add(*frame);
    }
    if (event.type == "gap") {
        auto gap = understood<protocol::FlowGap>(*raw, "read a gap");
        if (gap) running.lost += gap->lost;
    }
    if (event.type == "end") {
        auto end = understood<protocol::CaptureEnd>(*raw, "read the end of the capture");
        if (!end) return std::unexpected(std::move(end).error());
        running.end = *end;
    }
    return {};
}

asio::awaitable<void> read_frames(Session* session, std::shared_ptr<Running> running) {
    std::function<bool(const http::Event&)> on_event = [running](const http::Event& event) {
        running->trouble = take(*running, event);
        return running->trouble.has_value() && !running->end;
    };
    Result<void> ended =
        co_await session->api.client().events(running->path + "/frames", "", on_event, kSilence);
    if (!ended && running->trouble) running->trouble = ended;
    session->api.io().stop();
}

asio::awaitable<void> ask_to_stop(Session* session, std::string path) {
    Result<bj::value> stopped =
        co_await session->api.client().call("DELETE", path, nullptr, http::Headers(), kDeadline);
    if (!stopped) session->console.error(stopped.error());
}

// The first ^C asks the switch for the end, which brings what is under way; the second does not wait.
asio::awaitable<void> hear_interrupts(Session* session, std::shared_ptr<Running> running) {
    asio::signal_set signals(session->api.io(), SIGINT, SIGTERM);
    for (;;) {
        co_await signals.async_wait(asio::use_awaitable);
        if (++running->interrupts > 1) break;
        asio::co_spawn(session->api.io(), ask_to_stop(session, running->path), asio::detached);
    }
    session->api.io().stop();
}

int report(Session& session, const Running& running, const std::string& where) {
    // Of what was lost the switch knows its part, in its last word; the gaps on the way here are told in between.
    const std::uint64_t lost = std::max(running.lost, running.end ? running.end->lost : 0);
    if (!running.trouble) return failed(session, running.trouble.error());
    if (session.console.format() != Format::table && where != "-")
        session.console.value(bj::object{{"file", where},
                                         {"frames", running.frames},
                                         {"lost", lost},
                                         {"why", running.end ? running.end->why : "cut off"}});
    session.console.note(std::to_string(running.frames) + " frames written to " + where + ", " +
                         std::to_string(lost) + " lost");
    if (running.end || running.interrupts > 0) return kOk;
    session.console.error("the stream of frames was cut off", {"godwit status"});
    return kUnreachable;
}

int capture(Session& session, const CaptureOptions& options) {
    Result<protocol::CaptureRequest> request = request_of(options);
    if (!request) {
        session.console.error(request.error());
        return kUsage;
    }
    Result<std::string> on = place_of(session, options);
    if (!on) return failed(session, on.error());
    Result<PcapngFile> file = PcapngFile::create(options.file, request->snap);
    if (!file) return failed(session, file.error());
    const std::string path = "/v1/switches/" + http::encoded(*on) + "/captures";
    Result<bj::value> begun = session.api.post(path, json::to_json(*request), "");
    if (!begun) return failed(session, begun.error());
    auto made = understood<protocol::Capture>(*begun, "begin a capture");
    if (!made) return failed(session, made.error());
    auto running = std::make_shared<Running>(std::move(*file));
    running->path = path + "/" + http::encoded(made->id);
    session.console.note("capturing on " + *on + " as " + made->id + "; ^C ends it");
    const auto rethrow = [](std::exception_ptr thrown) {
        if (thrown) std::rethrow_exception(thrown);
    };
    asio::io_context& io = session.api.io();
    asio::co_spawn(io, read_frames(&session, running), rethrow);
    asio::co_spawn(io, hear_interrupts(&session, running), rethrow);
    io.restart();
    io.run();
    Result<void> finished =
        running->file.finish(std::max(running->lost, running->end ? running->end->lost : 0));
    if (running->trouble && !finished) running->trouble = finished;
    return report(session, *running, options.file);
}

}  // namespace

void add_capture_command(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<CaptureOptions>();
    protocol::CaptureRequest& request = options->request;
    CLI::App* sub =
        add_command(app, "capture", "Frames of one session or VM into a pcapng file (admin)",
                    chosen, [options](Session& session) { return capture(session, *options); });
    sub->add_option("-o,--write", options->file, "the file, - for stdout; mode 0600")
        ->required()
        ->type_name("FILE");
    sub->add_option("--vm", request.vm, "only this VM's");
    sub->add_option("--session", options->session, "PROTOCOL/ADDRESS:PORT/PEER:PORT");
    sub->add_option("--ip", options->addresses, "an end; twice for both")->expected(1)->take_all();
    sub->add_option("--port", options->ports, "its port")->expected(1)->take_all();
    sub->add_option("--protocol", request.protocol, "tcp, udp, ... or a number");
    sub->add_option("--switch", options->on, "where; else where the VM is");
    sub->add_option("--count", request.count, "at most so many frames")->capture_default_str();
    sub->add_option("--seconds", request.seconds, "at most so long")->capture_default_str();
    sub->add_option("--snap", request.snap, "bytes of each frame, 14 to 2048")
        ->capture_default_str();
}

}  // namespace godwit::cli
