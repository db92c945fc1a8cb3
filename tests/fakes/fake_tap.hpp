// A tap without a kernel: packets that the test names pass the same rules of who wants them.
#pragma once

#include "dataplane/plane.hpp"

#include <deque>
#include <time.h>
#include <vector>

namespace godwit::test {

class FakeTap final : public dataplane::Tap {
public:
    steer_watch& watch() override { return watch_; }
    int readable_fd() override { return -1; }
    std::size_t read(std::size_t most, const OnFlow& on_flow) override {
        std::size_t count = 0;
        for (; count < most && !ring_.empty(); ++count) {
            on_flow(ring_.front().flow, ring_.front().bytes);
            ring_.pop_front();
        }
        return count;
    }

    // A packet passes the plane: it is written down when somebody wants it and there is room.
    void pass(const steer_packet& packet, const steer_flow& about,
              const std::vector<std::uint8_t>& frame = {}) {
        if (watch_.on == 0) return;
        Record record{about, {}};
        const std::uint32_t wanted =
            steer_wanted(&watch_, &packet, about.verdict.why, about.vm, chance_++);
        if (wanted == 0) return;
        if (ring_.size() >= room) return steer_unwritten(&watch_, wanted);
        steer_describe(&record.flow, &packet, steer_verdict_number(about.verdict), about.vm);
        const std::size_t snap = std::min<std::size_t>(steer_snap(&watch_, wanted), frame.size());
        record.bytes.assign(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(snap));
        record.flow.captured = static_cast<std::uint16_t>(snap);
        record.flow.length = static_cast<std::uint32_t>(frame.size());
        record.flow.wanted = static_cast<std::uint8_t>(wanted);
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        record.flow.time_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                              static_cast<std::uint64_t>(now.tv_nsec);
        ring_.push_back(std::move(record));
    }

    std::size_t room = 100'000;

private:
    struct Record {
        steer_flow flow;
        std::vector<std::uint8_t> bytes;
    };
    steer_watch watch_{};
    std::deque<Record> ring_;
    std::uint32_t chance_ = 1;
};

}  // namespace godwit::test
