// What the commands share.
#include "cli/commands.hpp"

#include "cli/exit_code.hpp"

#include <charconv>

namespace godwit::cli {

namespace bj = json::bj;

namespace {

constexpr int kPagesMax = 10'000;

}  // namespace

CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& about) {
    CLI::App* group = app.add_subcommand(name, about);
    group->require_subcommand(1);
    group->fallthrough();
    return group;
}

CLI::App* add_command(CLI::App& group, const std::string& name, const std::string& about,
                      Command& chosen, Command command) {
    CLI::App* sub = group.add_subcommand(name, about);
    sub->fallthrough();
    sub->final_callback([&chosen, command = std::move(command)] { chosen = command; });
    return sub;
}

int failed(const Session& session, const Error& error) {
    session.console.error(error);
    return exit_code_of(error);
}

Result<std::uint32_t> parse_duration(const std::string& text) {
    std::uint32_t number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    const std::string_view unit(stop, static_cast<std::size_t>(end - stop));
    const std::uint32_t factor = unit.empty() || unit == "s" ? 1
                                 : unit == "m"               ? 60
                                 : unit == "h"               ? 3600
                                                             : 0;
    const bool fits = factor != 0 && number <= UINT32_MAX / factor;
    if (error != std::errc{} || !fits)
        return fail(Fault::Rejected, "\"" + text + "\"",
                    "a time is a number of seconds, or one like 90s, 5m, 2h");
    return number * factor;
}

CLI::Validator duration_check() {
    return CLI::Validator(
        [](std::string& text) {
            Result<std::uint32_t> seconds = parse_duration(text);
            return seconds ? std::string() : seconds.error().doing + ": " + seconds.error().cause;
        },
        "TIME");
}

Result<bj::array> all_pages(Api& api, const std::string& path, const std::string& key) {
    bj::array items;
    std::string page;
    for (int pages = 0; pages < kPagesMax; ++pages) {
        const std::string joint = path.find('?') == path.npos ? "?" : "&";
        Result<bj::value> answer =
            api.get(page.empty() ? path : path + joint + "page_token=" + http::encoded(page));
        if (!answer) return std::unexpected(std::move(answer).error());
        // Some lists are bare, some come in an object with room for a page token.
        const bj::object* object = answer->if_object();
        const bj::value* list = object ? object->if_contains(key) : &*answer;
        if (!list || !list->is_array())
            return fail(Fault::Rejected, "GET " + path, "the server's answer has no list of " + key,
                        "invalid-document");
        for (const bj::value& item : list->get_array()) items.push_back(item);
        const bj::value* next = object ? object->if_contains("next_page_token") : nullptr;
        if (!next || !next->is_string() || next->get_string().empty()) return items;
        page = next->get_string().c_str();
    }
    return fail(Fault::Rejected, "GET " + path, "the list has no end");
}

Result<std::vector<std::string>> switch_ids(Session& session, const std::string& only) {
    if (!only.empty()) return std::vector<std::string>{only};
    Result<bj::array> switches = all_pages(session.api, "/v1/switches", "switches");
    if (!switches) return std::unexpected(std::move(switches).error());
    std::vector<std::string> ids;
    for (const bj::value& value : *switches) {
        Result<protocol::SwitchStatus> s =
            understood<protocol::SwitchStatus>(value, "read the list of switches");
        if (!s) return std::unexpected(std::move(s).error());
        ids.push_back(s->id);
    }
    return ids;
}

std::vector<std::string> join_not(std::vector<std::string> words) {
    for (std::size_t i = 0; i + 1 < words.size(); ++i)
        if (words[i] == "--not" && words[i + 1].starts_with("--")) {
            words[i] = "--not-" + words[i + 1].substr(2);
            words.erase(words.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
    return words;
}

}  // namespace godwit::cli
