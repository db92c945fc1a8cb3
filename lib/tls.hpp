// TLS 1.3 between Godwit's own programs: both sides show a certificate of the fleet's CA, and each
// checks the other's name. Session keys are never logged: no key log callback is ever installed.
#pragma once

#include "lib/error.hpp"

#include <memory>
#include <string>

#include <openssl/ssl.h>

namespace godwit::tls {

// PEM files. The certificate may be followed by intermediate ones; the key's file must be a regular
// one that nobody but its owner may read.
struct Files {
    std::string certificate, key, ca;
};

// One host's identity, and whom it trusts. Immutable once loaded; any thread may use it.
class Context {
public:
    // Rejected/invalid-certificate names the file, what is wrong with it and how to make a right one:
    // not there, no PEM, key of another certificate, not of this CA, expired, open to others.
    static Result<std::shared_ptr<const Context>> load(const Files& files);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    SSL_CTX* get() const { return context_; }
    const Files& files() const { return files_; }

private:
    Context(SSL_CTX* context, Files files) : context_(context), files_(std::move(files)) {}

    SSL_CTX* context_;
    Files files_;
};

// "CN=host-b (issued by CN=Godwit fleet, valid until Jan  1 00:00:00 2031 GMT)"
std::string describe(X509* certificate);
// A DNS or IP entry of its subjectAltName is `host`; the CN counts for nothing (RFC 6125 §6.4.4).
bool is_for(X509* certificate, const std::string& host);
// What OpenSSL's error queue of this thread says last, in words; the queue is empty afterwards.
std::string last_error();
// How to make a certificate, for the end of a sentence.
std::string how_to_make(const std::string& host);

}  // namespace godwit::tls
