// Errors as text: the outer place first, the cause after it, the caller's next move at the end.
#include "lib/error.hpp"

#include <cerrno>
#include <system_error>

namespace godwit {

std::string_view to_string(Fault fault) {
    switch (fault) {
        case Fault::Retry:
            return "Retry";
        case Fault::Conflict:
            return "Conflict";
        case Fault::Rejected:
            return "Rejected";
        case Fault::Missing:
            return "Missing";
        case Fault::Denied:
            return "Denied";
        case Fault::Lost:
            return "Lost";
        case Fault::Corrupt:
            return "Corrupt";
    }
    return "Corrupt";
}

Error Error::within(std::string_view outer) && {
    doing = doing.empty() ? std::string(outer) : std::string(outer) + ": " + doing;
    return std::move(*this);
}

std::string Error::text() const {
    std::string text = doing;
    if (!text.empty() && !cause.empty()) text += ": ";
    text += cause;
    text += " [";
    text += to_string(fault);
    text += "]";
    for (const FieldError& field : fields) {
        text += "\n";
        if (field.line > 0)
            text += doing + ":" + std::to_string(field.line) + ":" + std::to_string(field.column) +
                    ": ";
        text += field.pointer.empty() ? "/" : field.pointer;
        text += " " + field.message;
    }
    return text;
}

std::unexpected<Error> fail(Fault fault, std::string doing, std::string cause, std::string slug) {
    return std::unexpected(Error{.fault = fault,
                                 .doing = std::move(doing),
                                 .cause = std::move(cause),
                                 .slug = std::move(slug)});
}

std::unexpected<Error> fail_errno(Fault fault, std::string doing) {
    const int number = errno;  // before any call that may change it
    return fail(fault, std::move(doing), std::generic_category().message(number));
}

}  // namespace godwit
