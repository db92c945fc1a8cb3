// godwit flows, godwit switch sampling: packets with their verdicts, one line each, as they pass.
#include "cli/commands.hpp"
#include "cli/exit_code.hpp"
#include "protocol/flow_api.hpp"

#include <algorithm>
#include <csignal>
#include <iostream>
#include <memory>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::cli {

namespace asio = boost::asio;
namespace bj = json::bj;

namespace {

constexpr auto kSilence = std::chrono::seconds(45);  // three heartbeats
constexpr auto kPause = std::chrono::seconds(1);
constexpr int kAwayMax = 120;  // pauses

struct FlowOptions {
    std::map<std::string, std::vector<std::string>> filters;  // "vm", "not_vm", ...
    std::string on;
    std::optional<std::uint32_t> last;
    bool follow = false;
};

std::string query_of(const FlowOptions& options, bool follow, std::uint32_t last) {
    std::string query = "?last=" + std::to_string(last) + (follow ? "&follow=true" : "");
    for (const auto& [name, words] : options.filters) {
        std::string list;
        for (const std::string& word : words) list += (list.empty() ? "" : ",") + word;
        if (!words.empty()) query += "&" + name + "=" + http::encoded(list);
    }
    return query;
}

std::string path_of(const std::string& id, const std::string& query) {
    return "/v1/switches/" + http::encoded(id) + "/flows" + query;
}

std::string end_text(const std::string& address, std::uint16_t port) {
    if (port == 0) return address;
    const bool wide = address.find(':') != address.npos;
    return (wide ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

std::string dash(const std::string& text) {
    return text.empty() ? "-" : text;
}

// "... in  uplink -> host-a  tcp 10.0.0.9:4000 -> 10.1.0.10:80 SYN  forward web-1@host-a new-owner"
std::string line_of(const protocol::FlowRow& flow) {
    std::string line = flow.time + "  " + (flow.direction == "in" ? "in " : "out") + "  " +
                       dash(flow.in_port) + " -> " + dash(flow.out_port) + "  " + flow.protocol;
    if (flow.source.empty())
        line += " " + flow.source_mac + " -> " + flow.destination_mac;
    else
        line += " " + end_text(flow.source, flow.source_port) + " -> " +
                end_text(flow.destination, flow.destination_port);
    if (!flow.tcp_flags.empty()) line += " " + flow.tcp_flags;
    const std::string owner = flow.owner.empty() ? "" : "@" + flow.owner;
    return line + "  " + flow.verdict + " " + dash(flow.vm + owner) + " " + flow.reason;
}

std::string gap_text(const std::string& id, const protocol::FlowGap& gap) {
    const std::string why = gap.where == "switch"
                                ? "switch " + id + " may write no more, or had no room"
                                : "they were not read fast enough";
    return "... " + std::to_string(gap.lost) + " packets are missing here: " + why;
}

// A stream of JSON is a document a line, of YAML a document after each "---".
void show(const Console& console, const bj::value& value, const std::string& line) {
    if (console.format() == Format::table) return console.line(line);
    if (console.format() == Format::json) return console.line(bj::serialize(value));
    console.line("---");
    console.value(value);
}

Result<void> show_event(const Console& console, const std::string& id, const http::Event& event) {
    Result<bj::value> raw = json::parse(event.data, "read flows of switch " + id);
    if (!raw) return std::unexpected(std::move(raw).error());
    if (event.type == "flow") {
        auto flow = understood<protocol::FlowRow>(*raw, "read a flow of switch " + id);
        if (!flow) return std::unexpected(std::move(flow).error());
        show(console, *raw, line_of(*flow));
    } else if (event.type == "gap") {
        auto gap = understood<protocol::FlowGap>(*raw, "read a gap of switch " + id);
        if (!gap) return std::unexpected(std::move(gap).error());
        show(console, bj::object{{"gap", *raw}, {"switch_id", id}}, gap_text(id, *gap));
    }
    return {};
}

struct Follow {
    Session& session;
    FlowOptions options;
    std::optional<int> exit_code = {};

    void end(int code) {
        if (!exit_code) exit_code = code;
        session.api.io().stop();
    }
};

// Until ^C. A stream that was heard and ends is taken up again: what passes meanwhile is missing, and that is said.
asio::awaitable<void> follow_one(std::shared_ptr<Follow> follow, std::string id) {
    const Console& console = follow->session.console;
    std::uint32_t last = follow->options.last.value_or(0);
    bool heard = false;
    asio::steady_timer timer(follow->session.api.io());
    for (int away = 0; away < kAwayMax; ++away) {
        auto trouble = std::make_shared<Result<void>>();
        std::function<bool(const http::Event&)> take = [&, trouble](const http::Event& event) {
            away = 0;
            heard = true;
            *trouble = show_event(console, id, event);
            return trouble->has_value();
        };
        Result<void> ended = co_await follow->session.api.client().events(
            path_of(id, query_of(follow->options, true, last)), "", take, kSilence);
        if (!trouble->has_value()) ended = *trouble;
        const bool may_pass = ended || ended.error().fault == Fault::Retry ||
                              (heard && ended.error().fault == Fault::Lost);
        if (!may_pass || (!ended && !heard && away == 0)) {
            console.error(ended.error());
            co_return follow->end(exit_code_of(ended.error()));
        }
        last = 0;
        if (away == 0)
            show(console, bj::object{{"gap", {{"where", "connection"}}}, {"switch_id", id}},
                 "... the stream of switch " + id +
                     " ended; what passes until it is back is missing");
        timer.expires_after(kPause);
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    console.error("switch " + id + " does not come back", {"godwit status"});
    follow->end(kUnreachable);
}

int follow_all(Session& session, const FlowOptions& options, const std::vector<std::string>& ids) {
    auto follow = std::make_shared<Follow>(session, options);
    asio::io_context& io = session.api.io();
    asio::signal_set signals(io, SIGINT, SIGTERM);
    signals.async_wait([follow](boost::system::error_code error, int) {
        if (!error) follow->end(kOk);
    });
    for (const std::string& id : ids)
        asio::co_spawn(io, follow_one(follow, id), [](std::exception_ptr thrown) {
            if (thrown) std::rethrow_exception(thrown);
        });
    io.restart();
    io.run();
    return follow->exit_code.value_or(kError);
}

int show_last(Session& session, const FlowOptions& options, const std::vector<std::string>& ids) {
    const std::uint32_t most = options.last.value_or(20);
    protocol::FlowList all;
    for (const std::string& id : ids) {
        Result<bj::value> raw = session.api.get(path_of(id, query_of(options, false, most)));
        if (!raw) return failed(session, raw.error());
        auto some = understood<protocol::FlowList>(*raw, "read the flows of switch " + id);
        if (!some) return failed(session, some.error());
        all.lost += some->lost;
        all.flows.insert(all.flows.end(), some->flows.begin(), some->flows.end());
    }
    std::ranges::sort(all.flows, {}, &protocol::FlowRow::time);
    if (all.flows.size() > most) all.flows.erase(all.flows.begin(), all.flows.end() - most);
    if (session.console.format() != Format::table) {
        session.console.value(json::to_json(all));
        return kOk;
    }
    for (const protocol::FlowRow& flow : all.flows) session.console.line(line_of(flow));
    if (all.flows.empty())
        session.console.note(
            "nothing was kept: switches sample while somebody follows (--follow), or as "
            "`godwit switch sampling` says");
    if (all.lost > 0)
        session.console.note(std::to_string(all.lost) + " packets could not be kept so far");
    return kOk;
}

int flows(Session& session, const FlowOptions& options) {
    Result<std::vector<std::string>> ids = switch_ids(session, options.on);
    if (!ids) return failed(session, ids.error());
    return options.follow ? follow_all(session, options, *ids) : show_last(session, options, *ids);
}

struct SamplingOptions {
    std::string on;
    std::optional<std::uint32_t> every, per_second;
    std::optional<std::vector<std::string>> always;
    bool off = false;
};

Result<bj::value> change(Session& session, const std::string& path, const bj::value& now,
                         const SamplingOptions& options) {
    auto status = understood<protocol::FlowSamplingStatus>(now, "read the sampling");
    if (!status) return std::unexpected(std::move(status).error());
    protocol::FlowSampling wanted = std::move(status->wanted);
    if (options.off) wanted.every = 0;
    if (options.off) wanted.always.clear();
    wanted.every = options.every.value_or(wanted.every);
    wanted.per_second = options.per_second.value_or(wanted.per_second);
    wanted.always = options.always.value_or(wanted.always);
    std::erase(wanted.always, "");
    return session.api.put(path, json::to_json(wanted));
}

std::string sampling_text(const protocol::FlowSampling& sampling) {
    std::string text = sampling.every == 0   ? "none by chance"
                       : sampling.every == 1 ? "every packet"
                                             : "one packet in " + std::to_string(sampling.every);
    for (std::size_t i = 0; i < sampling.always.size(); ++i)
        text += (i == 0 ? "; always " : ", ") + sampling.always[i];
    return text;
}

int sampling(Session& session, const SamplingOptions& options) {
    const std::string path = "/v1/switches/" + http::encoded(options.on) + "/sampling";
    Result<bj::value> raw = session.api.get(path);
    if (raw && (options.off || options.every || options.per_second || options.always))
        raw = change(session, path, *raw, options);
    if (!raw) return failed(session, raw.error());
    if (session.console.format() != Format::table) {
        session.console.value(*raw);
        return kOk;
    }
    auto status = understood<protocol::FlowSamplingStatus>(*raw, "read the sampling");
    if (!status) return failed(session, status.error());
    session.console.table({{},
                           {{"now", sampling_text(status->now)},
                            {"set", sampling_text(status->wanted)},
                            {"at most a second", std::to_string(status->wanted.per_second)},
                            {"followers", std::to_string(status->followers)},
                            {"written down", std::to_string(status->recorded)},
                            {"lost", std::to_string(status->lost)}}});
    return kOk;
}

}  // namespace

void add_flow_commands(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<FlowOptions>();
    CLI::App* flow =
        add_command(app, "flows", "Packets with their verdicts, as the switches decide them",
                    chosen, [options](Session& session) { return flows(session, *options); });
    flow->add_flag("-f,--follow", options->follow, "go on until ^C");
    flow->add_option("--last", options->last, "so many that passed before; 20 without --follow")
        ->check(CLI::Range(0, 4096));
    flow->add_option("--switch", options->on, "only of this switch");
    for (const char* field : protocol::kFlowFilters)
        for (const bool negated : {false, true}) {
            const std::string name = (negated ? "not-" : "") + std::string(field);
            const std::string about =
                (negated ? "none of these; also --not --" : "one of these; ") +
                std::string(negated ? field : "a,b or repeated");
            flow->add_option("--" + name,
                             options->filters[(negated ? "not_" : "") + std::string(field)], about)
                ->delimiter(',');
        }
    CLI::App* on = app.get_subcommand("switch");
    auto sampled = std::make_shared<SamplingOptions>();
    CLI::App* set =
        add_command(*on, "sampling", "Which packets `godwit flows` is told; without options: show",
                    chosen, [sampled](Session& session) { return sampling(session, *sampled); });
    set->add_option("switch", sampled->on, "the switch's id")->required();
    set->add_option("--every", sampled->every, "one packet in so many, by chance; 0: none");
    set->add_option("--always", sampled->always, "reasons of which every packet is told")
        ->delimiter(',');
    set->add_option("--per-second", sampled->per_second, "at most so many, 10 to 100000");
    set->add_flag("--off", sampled->off, "nothing but while somebody follows");
}

}  // namespace godwit::cli
