#include "dataplane/state.hpp"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::dataplane {
namespace {

Result<void> write_all(int fd, std::string_view text, const std::string& file) {
    while (!text.empty()) {
        const ssize_t written = write(fd, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(Fault::Retry, "write " + file);
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    if (fsync(fd) != 0) return fail_errno(Fault::Retry, "fsync " + file);
    return {};
}

Result<void> sync_directory(const std::string& directory) {
    Descriptor folder(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || fsync(folder.get()) != 0) return fail_errno(Fault::Retry, "fsync " + directory);
    return {};
}

}  // namespace

Result<SwitchState> StateFile::load() const {
    std::error_code error;
    std::filesystem::create_directories(directory_, error);
    if (error) return fail(Fault::Rejected, "state_dir " + directory_, error.message());
    const std::string file = directory_ + "/switch.json";
    if (!std::filesystem::exists(file)) return SwitchState{};
    std::ifstream in(file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    Result<SwitchState> state = json::from_text<SwitchState>(text, file);
    if (!state) {
        Error why = std::move(state).error();
        why.fault = Fault::Corrupt;
        return std::unexpected(std::move(why));
    }
    return state;
}

Result<void> StateFile::save(const SwitchState& state) const {
    const std::string file = directory_ + "/switch.json", fresh = file + ".new";
    {
        Descriptor out(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
        if (!out) return fail_errno(Fault::Retry, "open " + fresh);
        Result<void> written = write_all(out.get(), json::to_text(state), fresh);
        if (!written) return written;
    }
    if (rename(fresh.c_str(), file.c_str()) != 0)
        return fail_errno(Fault::Retry, "rename " + fresh);
    return sync_directory(directory_);
}

Result<Descriptor> StateFile::lock() const {
    std::error_code error;
    std::filesystem::create_directories(directory_, error);
    const std::string file = directory_ + "/lock";
    Descriptor held(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!held) return fail_errno(Fault::Rejected, "open " + file);
    if (flock(held.get(), LOCK_EX | LOCK_NB) != 0)
        return fail(Fault::Conflict, "lock " + file,
                    "a godwit-switch runs with this state_dir: stop it first, or give each one "
                    "a directory and an id of its own");
    return held;
}

}  // namespace godwit::dataplane
