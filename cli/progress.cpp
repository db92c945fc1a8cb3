// A job's progress as text.
#include "cli/watch.hpp"

#include <algorithm>

namespace godwit::cli {

namespace {

constexpr std::uint32_t kBarCells = 20;

// While a job is as it should be only its phase is of interest.
std::string phase_text(const protocol::Job& job) {
    return job.state == "running" || job.state.empty() ? job.phase
                                                       : job.state + " (" + job.phase + ")";
}

std::string figures(const protocol::Job& job) {
    const protocol::Progress& progress = job.progress;
    std::string text;
    if (progress.sessions.source + progress.sessions.destination > 0)
        text += "  sessions " + std::to_string(progress.sessions.source) + " on " + job.source +
                ", " + std::to_string(progress.sessions.destination) + " on " + job.destination;
    if (progress.bytes.total > 0)
        text += "  copied " + bytes_text(progress.bytes.copied) + " of " +
                bytes_text(progress.bytes.total);
    if (progress.eta_s && !job.done) text += "  ETA " + duration_text(*progress.eta_s);
    return text;
}

}  // namespace

std::string progress_text(const protocol::Job& job) {
    std::string text =
        phase_text(job) + "  " + std::to_string(job.progress.percent) + "%" + figures(job);
    if (!job.detail.empty()) text += "  " + job.detail;
    return printable(text);
}

std::string progress_bar(const protocol::Job& job, int width) {
    const std::uint32_t filled = std::min(job.progress.percent, 100u) * kBarCells / 100;
    std::string text = job.target + " to " + job.destination + "  [" + std::string(filled, '#') +
                       std::string(kBarCells - filled, '-') + "] " +
                       std::to_string(job.progress.percent) + "%  " + phase_text(job) +
                       figures(job);
    text = printable(text);
    // The last column stays free: some terminals break the line there.
    const auto most = static_cast<std::size_t>(std::max(width - 1, 20));
    if (text.size() > most) text.resize(most);
    return text;
}

}  // namespace godwit::cli
