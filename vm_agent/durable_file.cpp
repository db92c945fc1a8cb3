#include "vm_agent/durable_file.hpp"

#include "vm_agent/memory/mapped_file.hpp"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace godwit {

using memory::Descriptor;

namespace {

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
    while (!content.empty()) {
        const ssize_t written = ::write(fd, content.data(), content.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(Fault::Retry, "write " + path);
        content.remove_prefix(static_cast<std::size_t>(written));
    }
    if (fsync(fd) != 0) return fail_errno(Fault::Retry, "fsync " + path);
    return {};
}

}  // namespace

Result<void> replace_file(const std::string& path, std::string_view content) {
    const std::string fresh = path + ".new";
    Descriptor file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file) return fail_errno(Fault::Retry, "create " + fresh);
    Result<void> written = write_all(file.get(), content, fresh);
    if (!written) return written;
    if (::rename(fresh.c_str(), path.c_str()) != 0)
        return fail_errno(Fault::Retry, "rename " + fresh);
    const std::string folder = std::filesystem::path(path).parent_path().string();
    Descriptor parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent || fsync(parent.get()) != 0) return fail_errno(Fault::Retry, "fsync " + folder);
    return {};
}

Result<std::string> read_file(const std::string& path) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail_errno(errno == ENOENT ? Fault::Missing : Fault::Retry, "open " + path);
    std::string content;
    char chunk[64 * 1024];
    while (true) {
        const ssize_t got = ::read(file.get(), chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(Fault::Retry, "read " + path);
        if (got == 0) return content;
        content.append(chunk, static_cast<std::size_t>(got));
    }
}

Result<void> remove_file(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return fail_errno(Fault::Retry, "remove " + path);
    return {};
}

}  // namespace godwit
