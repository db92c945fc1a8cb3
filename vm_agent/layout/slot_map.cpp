#include "vm_agent/layout/slot_map.hpp"

#include <algorithm>
#include <cstring>

namespace godwit::memory {

namespace {

template <std::size_t N>
std::string name_of(const char* const (&names)[N], std::uint64_t value) {
    return value < N ? names[value] : "unknown (" + std::to_string(value) + ")";
}

}  // namespace

std::string rule_name(std::uint32_t rule) {
    static constexpr const char* kNames[] = {"fail",      "source-wins", "destination-wins",
                                             "add-delta", "max",         "append"};
    return name_of(kNames, rule);
}

std::string kind_name(std::uint32_t kind) {
    static constexpr const char* kNames[] = {"fixed", "allocated", "log"};
    return name_of(kNames, kind);
}

std::string role_name(std::uint64_t role) {
    static constexpr const char* kNames[] = {"sole", "source", "clone"};
    return name_of(kNames, role);
}

std::string guest_text(const char* text, std::size_t length) {
    std::string clean(text, strnlen(text, length));
    for (char& c : clean)
        if (c < ' ' || c > '~') c = '?';
    return clean;
}

Result<SlotMap> SlotMap::read(std::span<const std::byte> data) {
    return read_page(data, data.size());
}

Result<SlotMap> SlotMap::read_page(std::span<const std::byte> bytes, std::uint64_t length_bytes) {
    SlotMap map;
    if (bytes.size() < GODWIT_HEADER_BYTES)
        return fail(Fault::Corrupt, "read a region's header",
                    "the region is smaller than one page");
    godwit_header_page page;
    std::memcpy(&page, bytes.data(), sizeof(page));
    if (page.head.magic == 0) return map;
    const char* why = "";
    if (godwit_header_check(&page, length_bytes, &why) != 0)
        return fail(Fault::Corrupt, "read a region's header", why, "bad-region");
    map.classes_.assign(page.classes, page.classes + page.head.class_count);
    return map;
}

const godwit_class_line* SlotMap::class_at(std::uint64_t offset) const {
    auto after = std::ranges::upper_bound(classes_, offset, {}, &godwit_class_line::offset);
    if (after == classes_.begin()) return nullptr;
    const godwit_class_line& line = *std::prev(after);
    const std::uint64_t bytes = std::uint64_t{line.slot_bytes} * line.slot_count;
    return offset - line.offset < bytes ? &line : nullptr;
}

godwit_rule SlotMap::rule_at(std::uint64_t offset) const {
    const godwit_class_line* line = class_at(offset);
    return line ? static_cast<godwit_rule>(line->rule) : GODWIT_FAIL;
}

std::string SlotMap::slot_at(std::uint64_t offset) const {
    if (offset < GODWIT_HEADER_BYTES) return "header";
    const godwit_class_line* line = class_at(offset);
    if (!line) return "unassigned";
    const std::uint64_t index = (offset - line->offset) / line->slot_bytes;
    std::string within = std::to_string(index);
    if (line->kind == GODWIT_LOG) within = index == 0 ? "count" : std::to_string(index - 1);
    return guest_text(line->name, sizeof(line->name)) + "[" + within + "]";
}

}  // namespace godwit::memory
