#include "lib/secret.hpp"

#include "controller/http/api.hpp"

#include <charconv>

namespace godwit::controller {

namespace {

constexpr int kPageMax = 500;
constexpr std::size_t kSealLength = 32;

std::string seal(const Api& api, const std::string& id) {
    return sha256_hex(api.page_secret + ":" + id).substr(0, kSealLength);
}

}  // namespace

std::string page_token(const Api& api, const std::string& last_id) {
    return seal(api, last_id) + "." + last_id;
}

Result<Page> page_of(const Api& api, const http::Request& request) {
    Page page;
    const std::string size = request.query_or("page_size", "");
    if (!size.empty()) {
        const auto [end, error] =
            std::from_chars(size.data(), size.data() + size.size(), page.size);
        if (error != std::errc() || end != size.data() + size.size() || page.size < 1)
            return unprocessable("list", "/page_size", "is \"" + size + "\", expected 1 to 500",
                                 "invalid-document");
        page.size = std::min(page.size, kPageMax);
    }
    const std::string token = request.query_or("page_token", "");
    if (token.empty()) return page;
    const bool long_enough = token.size() > kSealLength + 1;
    if (long_enough) page.after = token.substr(kSealLength + 1);
    if (!long_enough || !equal_secrets(token, page_token(api, page.after)))
        return unprocessable("list", "/page_token", "is not a token that was given out",
                             "invalid-document");
    return page;
}

std::unexpected<Error> unprocessable(const std::string& doing, std::string pointer,
                                     std::string message, std::string slug) {
    Error error{Fault::Rejected, doing, pointer + " " + message, std::move(slug)};
    error.fields = {{std::move(pointer), std::move(message)}};
    return std::unexpected(std::move(error));
}

}  // namespace godwit::controller
