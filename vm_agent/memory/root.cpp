#include "vm_agent/memory/root.hpp"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <xxhash.h>

namespace godwit::memory {

namespace {

struct StateFree {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};
using State = std::unique_ptr<XXH3_state_t, StateFree>;

Root root_from(XXH128_hash_t hash) {
    return {hash.low64, hash.high64};
}

const std::vector<std::byte>& zeros() {
    static const std::vector<std::byte> bytes(kLeafBytes);
    return bytes;
}

Root zero_leaf(std::uint64_t length) {
    static const Root whole = root_from(XXH3_128bits(zeros().data(), kLeafBytes));
    return length == kLeafBytes ? whole : root_from(XXH3_128bits(zeros().data(), length));
}

// Bytes [begin, end) of one leaf: data through the map, holes from the page of zeros.
Root hash_leaf(const MappedFile& file, const Extents& data, std::size_t first, std::uint64_t begin,
               std::uint64_t end, XXH3_state_t* state) {
    XXH3_128bits_reset(state);
    std::uint64_t at = begin;
    for (std::size_t i = first; i < data.size() && data[i].offset < end; ++i) {
        const std::uint64_t from = std::max(data[i].offset, begin);
        const std::uint64_t to = std::min(data[i].end(), end);
        XXH3_128bits_update(state, zeros().data(), from - at);
        XXH3_128bits_update(state, file.data() + from, to - from);
        at = to;
    }
    XXH3_128bits_update(state, zeros().data(), end - at);
    return root_from(XXH3_128bits_digest(state));
}

Result<void> hash_block(const MappedFile& file, std::vector<Root>& leaves, XXH3_state_t* state) {
    Result<Extents> data = file.extents();
    if (!data) return std::unexpected(std::move(data).error());
    leaves.push_back({file.size(), 0});
    std::size_t first = 0;
    for (std::uint64_t begin = 0; begin < file.size(); begin += kLeafBytes) {
        const std::uint64_t end = std::min(begin + kLeafBytes, file.size());
        while (first < data->size() && (*data)[first].end() <= begin) ++first;
        const bool has_data = first < data->size() && (*data)[first].offset < end;
        leaves.push_back(has_data ? hash_leaf(file, *data, first, begin, end, state)
                                  : zero_leaf(end - begin));
    }
    return {};
}

}  // namespace

Result<Root> root_of(const std::vector<const MappedFile*>& blocks) {
    State state(XXH3_createState());
    std::vector<Root> leaves;
    for (const MappedFile* block : blocks) {
        Result<void> hashed = hash_block(*block, leaves, state.get());
        if (!hashed) return std::unexpected(std::move(hashed).error());
    }
    return root_from(XXH3_128bits(leaves.data(), leaves.size() * sizeof(Root)));
}

std::string to_hex(const Root& root) {
    return fmt::format("{:016x}{:016x}", root.high, root.low);
}

}  // namespace godwit::memory
