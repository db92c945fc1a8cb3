#include "lib/log.hpp"

#include <array>
#include <cstdlib>

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace godwit::log {

namespace {

constexpr std::array<std::string_view, 6> kNames = {"trace",   "debug", "info",
                                                    "warning", "error", "off"};

spdlog::level::level_enum spd_level(Level level) {
    constexpr std::array kLevels = {spdlog::level::trace, spdlog::level::debug, spdlog::level::info,
                                    spdlog::level::warn,  spdlog::level::err,   spdlog::level::off};
    return kLevels[static_cast<std::size_t>(level)];
}

std::shared_ptr<spdlog::logger> make_logger() {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>("godwit", sink);
    logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc));
    logger->flush_on(spdlog::level::trace);
    logger->set_level(spdlog::level::info);
    if (const char* wanted = std::getenv("GODWIT_LOG_LEVEL")) {
        Result<Level> level = parse_level(wanted);
        if (level) logger->set_level(spd_level(*level));
    }
    return logger;
}

spdlog::logger& logger() {
    static const std::shared_ptr<spdlog::logger> instance = make_logger();
    return *instance;
}

std::string indented(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (c == '\n')
            out += "\n    ";
        else if (static_cast<unsigned char>(c) >= 0x20 || c == '\t')
            out += c;
    }
    return out;
}

}  // namespace

Result<Level> parse_level(std::string_view name) {
    for (std::size_t i = 0; i < kNames.size(); ++i)
        if (kNames[i] == name) return static_cast<Level>(i);
    return fail(Fault::Rejected, "log level \"" + std::string(name) + "\"",
                "expected trace, debug, info, warning, error or off");
}

void set_level(Level level) {
    logger().set_level(spd_level(level));
}

bool is_on(Level level) {
    return logger().should_log(spd_level(level));
}

void write(Level level, std::string_view part, std::string_view text) {
    if (is_on(level)) logger().log(spd_level(level), "{}: {}", part, indented(text));
}

}  // namespace godwit::log
