// Any bytes through the configuration loader: a document that JSON can say again, or an error with
// a place; never a crash, a leak or an endless loop.
#include "lib/config.hpp"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    using namespace godwit;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    Result<config::Document> document = config::parse_yaml(text, "fuzz.yaml");
    if (!document) {
        for (const FieldError& error : document.error().fields)
            if (error.line < 1 || error.column < 1) std::abort();
        return 0;
    }
    std::vector<FieldError> anywhere = {{"/a/0/b", "x"}, {"", "x"}};
    config::place_errors(anywhere, *document);
    if (anywhere[0].line < 1 || anywhere[1].line < 1) std::abort();
    (void)json::bj::serialize(document->value);
    return 0;
}
