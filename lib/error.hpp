// Errors as values: what went wrong, said from the outside in, and the caller's next move.
// Relies on nothing but the standard library.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace godwit {

// Named for the caller's next move, not for the place that failed.
enum class Fault {
    Retry,     // transient, or the outcome is unknown: observe, then the same call again
    Conflict,  // someone moved first: reload, then decide again
    Rejected,  // the request itself is wrong: tell the client
    Missing,   // the named thing does not exist
    Denied,    // the caller may not do this
    Lost,      // the peer is gone: fence it before going on
    Corrupt,   // stored bytes do not check out: stop, keep the evidence
};

std::string_view to_string(Fault fault);

// One wrong field of a document. `pointer` is an RFC 6901 JSON pointer ("/ports/0/role"); line and
// column are 1-based and 0 where the document has no text position.
struct FieldError {
    std::string pointer;
    std::string message;  // says what is wrong and what to write instead
    int line = 0;
    int column = 0;
    bool at_key = false;  // the key is at fault (unknown, misspelt), not its value
};

struct Error {
    Fault fault = Fault::Retry;
    std::string doing;  // "drain m-42: ask switch sw-3"
    std::string cause;  // "connect: Connection refused"
    // Stable problem slug of RFC 9457 `type` ("vm-busy"); empty means the fault's general slug.
    std::string slug = {};
    std::vector<FieldError> fields = {};
    std::string instance = {};                   // RFC 9457: the resource meant, "/v1/jobs/j-1"
    std::vector<std::string> next_actions = {};  // what a person can do now, one command each

    // Puts what the caller was doing in front: "outer: doing".
    Error within(std::string_view outer) &&;
    // "drain m-42: ask switch sw-3: connect: Connection refused [Retry]", then a line per field.
    std::string text() const;
};

template <typename T>
using Result = std::expected<T, Error>;

std::unexpected<Error> fail(Fault fault, std::string doing, std::string cause,
                            std::string slug = {});
// errno said in words: fail_errno(Fault::Retry, "open /dev/net/tun").
std::unexpected<Error> fail_errno(Fault fault, std::string doing);

}  // namespace godwit
