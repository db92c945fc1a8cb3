// Looking into a plane: what it is to write down of the packets that pass, and reading what it wrote.
#pragma once

#include "steering/flow.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace godwit::dataplane {

class Tap {
public:
    virtual ~Tap() = default;

    // Mapped memory that the plane's packets read. All zero at start: nothing is written down.
    virtual steer_watch& watch() = 0;
    virtual int readable_fd() = 0;  // readable while there is something to read
    // Hands out records, oldest first, until `most` are read or none is left; returns how many. `bytes` are the
    // frame's first, as many as record.captured says. What was handed out is gone.
    using OnFlow =
        std::function<void(const steer_flow& record, std::span<const std::uint8_t> bytes)>;
    virtual std::size_t read(std::size_t most, const OnFlow& on_flow) = 0;
};

}  // namespace godwit::dataplane
