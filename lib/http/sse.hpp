// Server-sent events as text (WHATWG HTML §9.2), both ways.
#pragma once

#include "lib/http/message.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace godwit::http {

// "id: 7\nevent: job\ndata: {...}\n\n"; line breaks in `data` become several data lines, those in
// `id` and `type` are dropped.
std::string format_event(const Event& event);

// Bytes in any portions, whole events out. A comment line yields nothing.
class EventParser {
public:
    // An event larger than this is a protocol error, not a reason to run out of memory.
    static constexpr std::size_t kEventMax = 4 << 20;

    Result<std::vector<Event>> feed(std::string_view bytes);

private:
    void take_line(std::string_view line, std::vector<Event>& out);

    std::string rest_;           // an unfinished line
    bool skip_newline_ = false;  // the last line ended in '\r', a '\n' may follow
    Event event_;
    bool has_data_ = false;
    std::string last_id_;
};

}  // namespace godwit::http
