// A CA of a test's own and the certificates it issues, good and bad, as PEM files in a folder.
#pragma once

#include "lib/tls.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/stat.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace godwit::fakes {

class FleetCa {
public:
    // Issuer "CN=<name>"; the files lie in `folder`, which outlives them.
    FleetCa(std::string folder, const std::string& name)
        : folder_(std::move(folder)), key_(EVP_EC_gen("P-256")), ca_(sign(name, key_, "", 3600)) {
        write(ca_file(), [this](FILE* file) { PEM_write_X509(file, ca_); });
    }
    ~FleetCa() {
        X509_free(ca_);
        EVP_PKEY_free(key_);
    }
    FleetCa(const FleetCa&) = delete;
    FleetCa& operator=(const FleetCa&) = delete;

    std::string ca_file() const { return folder_ + "ca.crt"; }

    // `names` as in a subjectAltName: "DNS:host-a,IP:127.0.0.1". Valid until valid_s from now, which
    // may be past.
    tls::Files issue(const std::string& host, const std::string& names, long valid_s = 3600) {
        const tls::Files files{folder_ + host + ".crt", folder_ + host + ".key", ca_file()};
        EVP_PKEY* key = EVP_EC_gen("P-256");
        X509* certificate = sign(host, key, names, valid_s);
        write(files.certificate, [&](FILE* file) { PEM_write_X509(file, certificate); });
        write(files.key, [&](FILE* file) {
            PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
        });
        X509_free(certificate);
        EVP_PKEY_free(key);
        return files;
    }

private:
    X509* sign(const std::string& name, EVP_PKEY* key, const std::string& names, long valid_s) {
        X509* made = X509_new();
        X509_set_version(made, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial_);
        X509_gmtime_adj(X509_getm_notBefore(made), -86'400);
        X509_gmtime_adj(X509_getm_notAfter(made), valid_s);
        X509_set_pubkey(made, key);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        const bool is_ca = names.empty();
        X509_set_issuer_name(made, X509_get_subject_name(is_ca ? made : ca_));
        extend(made, NID_basic_constraints, is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
        if (!is_ca) extend(made, NID_subject_alt_name, names);
        X509_sign(made, key_, EVP_sha256());
        return made;
    }
    static void extend(X509* certificate, int nid, const std::string& value) {
        X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
        if (extension == nullptr) abort();
        X509_add_ext(certificate, extension, -1);
        X509_EXTENSION_free(extension);
    }
    template <typename Print>
    static void write(const std::string& path, Print print) {
        FILE* file = fopen(path.c_str(), "w");
        if (file == nullptr) abort();
        print(file);
        fclose(file);
        chmod(path.c_str(), 0600);
    }

    std::string folder_;
    long serial_ = 0;
    EVP_PKEY* key_;
    X509* ca_ = nullptr;
};

}  // namespace godwit::fakes
