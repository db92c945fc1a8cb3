#include "lib/secret.hpp"

#include "lib/descriptor.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace godwit {

namespace {

constexpr std::size_t kSecretMin = 16;
constexpr std::size_t kSecretMax = 4096;

std::string hex(const unsigned char* bytes, std::size_t count) {
    constexpr std::string_view kHex = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        text += kHex[bytes[i] >> 4];
        text += kHex[bytes[i] & 15];
    }
    return text;
}

Result<void> check_owner(int fd, const std::string& doing, const std::string& file) {
    struct stat now{};
    if (fstat(fd, &now) != 0) return fail_errno(Fault::Rejected, doing);
    if (!S_ISREG(now.st_mode)) return fail(Fault::Rejected, doing, "it is not a regular file");
    if ((now.st_mode & 077) != 0)
        return fail(Fault::Rejected, doing, "others may read it; run: chmod 600 " + file);
    if (now.st_uid != geteuid() && now.st_uid != 0 && geteuid() != 0)
        return fail(
            Fault::Rejected, doing,
            "it belongs to another user; run: chown " + std::to_string(geteuid()) + " " + file);
    return {};
}

}  // namespace

Result<std::string> read_secret_file(const std::string& file) {
    const std::string doing = "read the secret in " + file;
    Descriptor fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) return fail_errno(Fault::Rejected, doing);
    Result<void> checked = check_owner(fd.get(), doing, file);
    if (!checked) return std::unexpected(std::move(checked).error());
    std::string text(kSecretMax + 2, '\0');
    const ssize_t got = read(fd.get(), text.data(), text.size());
    if (got < 0) return fail_errno(Fault::Rejected, doing);
    text.resize(static_cast<std::size_t>(got));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    if (text.size() < kSecretMin || text.size() > kSecretMax)
        return fail(Fault::Rejected, doing, "a secret has 16 to 4096 characters");
    // It becomes a header's value: a line break or a space in it could say something else.
    for (char c : text)
        if (c <= ' ' || c > '~')
            return fail(Fault::Rejected, doing, "it must be one printable word");
    return text;
}

Result<std::string> create_secret_file(const std::string& file) {
    const std::string doing = "create " + file;
    Descriptor fd(open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0) return fail_errno(errno == EEXIST ? Fault::Conflict : Fault::Rejected, doing);
    std::string token = random_token();
    const std::string line = token + "\n";
    const ssize_t written = write(fd.get(), line.data(), line.size());
    if (written != static_cast<ssize_t>(line.size()) || fsync(fd.get()) != 0) {
        std::unexpected<Error> error = fail_errno(Fault::Retry, doing);
        unlink(file.c_str());
        return error;
    }
    return token;
}

std::string random_token() {
    std::array<unsigned char, 32> bytes{};
    // A predictable token would be worse than no program.
    if (RAND_bytes(bytes.data(), bytes.size()) != 1) std::abort();
    return "godwit_" + hex(bytes.data(), bytes.size());
}

std::string sha256_hex(std::string_view text) {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
    return hex(digest.data(), digest.size());
}

bool equal_secrets(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace godwit
