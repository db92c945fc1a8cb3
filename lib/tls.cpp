#include "lib/tls.hpp"

#include <sys/stat.h>
#include <system_error>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace godwit::tls {

namespace {

std::unexpected<Error> invalid(const std::string& file, std::string cause) {
    return fail(Fault::Rejected, "read " + file, std::move(cause) + "; " + how_to_make("HOST"),
                "invalid-certificate");
}

std::string name_of(const X509_NAME* name) {
    std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
    X509_NAME_print_ex(text.get(), name, 0,
                       XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB & ~XN_FLAG_SPC_EQ);
    char* data = nullptr;
    const long length = BIO_get_mem_data(text.get(), &data);
    return {data, static_cast<std::size_t>(length)};
}

std::string time_of(const ASN1_TIME* time) {
    std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
    ASN1_TIME_print(text.get(), time);
    char* data = nullptr;
    const long length = BIO_get_mem_data(text.get(), &data);
    return {data, static_cast<std::size_t>(length)};
}

Result<void> check_private(const std::string& file) {
    struct stat status{};
    if (stat(file.c_str(), &status) != 0)
        return invalid(file, fail_errno(Fault::Rejected, "").error().cause);
    if (!S_ISREG(status.st_mode)) return invalid(file, "it is no regular file");
    if ((status.st_mode & 077) != 0)
        return fail(Fault::Rejected, "read " + file, "others may read this key: chmod 600 " + file,
                    "invalid-certificate");
    return {};
}

// As a peer will check it, so that a bad one is found at the start and not at a migration.
Result<void> check_own(SSL_CTX* context, const Files& files) {
    X509* own = SSL_CTX_get0_certificate(context);
    std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> check(X509_STORE_CTX_new(),
                                                                          X509_STORE_CTX_free);
    STACK_OF(X509)* chain = nullptr;
    SSL_CTX_get0_chain_certs(context, &chain);
    X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context), own, chain);
    if (X509_verify_cert(check.get()) == 1) return {};
    const int why = X509_STORE_CTX_get_error(check.get());
    ERR_clear_error();
    return invalid(files.certificate, "its " + describe(own) + " is not good against " + files.ca +
                                          ": " + X509_verify_cert_error_string(why));
}

Result<void> read_files(SSL_CTX* context, const Files& files) {
    Result<void> safe = check_private(files.key);
    if (!safe) return safe;
    if (SSL_CTX_load_verify_file(context, files.ca.c_str()) != 1)
        return invalid(files.ca, last_error());
    if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
        return invalid(files.certificate, last_error());
    if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1)
        return invalid(files.key, last_error());
    return check_own(context, files);
}

}  // namespace

std::string how_to_make(const std::string& host) {
    return "make one with: ./run certificate DIR " + host;
}

std::string last_error() {
    const unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    if (code == 0) return "unknown TLS error";
    if (ERR_SYSTEM_ERROR(code)) return std::generic_category().message(ERR_GET_REASON(code));
    const char* words = ERR_reason_error_string(code);
    return words != nullptr ? words : "TLS error " + std::to_string(code);
}

std::string describe(X509* certificate) {
    return name_of(X509_get_subject_name(certificate)) + " (issued by " +
           name_of(X509_get_issuer_name(certificate)) + ", valid until " +
           time_of(X509_get0_notAfter(certificate)) + ")";
}

bool is_for(X509* certificate, const std::string& host) {
    if (X509_check_ip_asc(certificate, host.c_str(), 0) == 1) return true;
    return X509_check_host(certificate, host.data(), host.size(),
                           X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_WILDCARDS,
                           nullptr) == 1;
}

Result<std::shared_ptr<const Context>> Context::load(const Files& files) {
    SSL_CTX* context = SSL_CTX_new(TLS_method());
    if (context == nullptr) return fail(Fault::Retry, "set TLS up", last_error());
    std::shared_ptr<const Context> made(new Context(context, files));
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    // Every connection proves both sides anew: no tickets, no resumed TLS sessions.
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    Result<void> read = read_files(context, files);
    if (!read) return std::unexpected(std::move(read).error());
    return made;
}

Context::~Context() {
    SSL_CTX_free(context_);
}

}  // namespace godwit::tls
