#include "lib/http/sse.hpp"

namespace godwit::http {

namespace {

std::string one_line(std::string text) {
    std::erase_if(text, [](char c) { return c == '\n' || c == '\r'; });
    return text;
}

}  // namespace

std::string format_event(const Event& event) {
    std::string text;
    if (!event.id.empty()) text += "id: " + one_line(event.id) + "\n";
    if (!event.type.empty()) text += "event: " + one_line(event.type) + "\n";
    std::string_view data = event.data;
    while (true) {
        const std::size_t end = data.find_first_of("\r\n");
        text += "data: ";
        text += data.substr(0, end);
        text += "\n";
        if (end == data.npos) break;
        const bool both = data.substr(end, 2) == "\r\n";
        data.remove_prefix(end + (both ? 2 : 1));
    }
    return text + "\n";
}

Result<std::vector<Event>> EventParser::feed(std::string_view bytes) {
    std::vector<Event> out;
    for (char c : bytes) {
        if (c == '\n' && skip_newline_) {
            skip_newline_ = false;
            continue;
        }
        skip_newline_ = c == '\r';
        if (c == '\n' || c == '\r') {
            take_line(rest_, out);
            rest_.clear();
        } else {
            rest_ += c;
        }
        if (rest_.size() + event_.data.size() > kEventMax)
            return fail(Fault::Rejected, "read an event", "it is larger than 4 MiB");
    }
    return out;
}

void EventParser::take_line(std::string_view line, std::vector<Event>& out) {
    if (line.empty()) {
        if (has_data_) {
            event_.id = last_id_;
            out.push_back(event_);
        }
        event_ = {};
        has_data_ = false;
        return;
    }
    const std::size_t colon = line.find(':');
    const std::string_view name = line.substr(0, colon);
    std::string_view value = colon == line.npos ? std::string_view{} : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "id") {
        last_id_ = value;
    } else if (name == "event") {
        event_.type = value;
    } else if (name == "data") {
        if (has_data_) event_.data += '\n';
        event_.data += value;
        has_data_ = true;
    }
}

}  // namespace godwit::http
