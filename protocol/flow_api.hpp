// Looking inside a switch: packets with their verdicts, and the frames of one session.
//
// godwit-switch (all for peers):
//   GET    /v1/flows?last=N&FILTER         -> FlowList, of what was kept lately
//   GET    /v1/flows?follow=true&last=N&FILTER   SSE: `flow` (FlowRow), `gap` (FlowGap)
//   GET    /v1/sampling                    -> FlowSamplingStatus
//   PUT    /v1/sampling                    FlowSampling -> FlowSamplingStatus
//   POST   /v1/captures                    CaptureRequest -> 201 Capture
//   GET    /v1/captures/{capture}/frames   SSE: `frame` (CapturedFrame), `gap` (FlowGap), `end` (CaptureEnd); one
//                                          reader, and the capture ends when it goes
//   DELETE /v1/captures/{capture}
// The controller passes them on below /v1/switches/{switch}: flows and sampling to a viewer, setting the sampling
// to a netadmin, captures to an admin, because they hold what users say to each other.
//
// FILTER: vm, owner, verdict, reason, protocol, ip (an address or a prefix, of either end), port (of either end), each a
// list "a,b" of which one must be met, and the same with "not_" in front, of which none may be. Values that are not
// known are refused with those that are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/describe.hpp>

namespace godwit::protocol {

inline constexpr const char* kFlowFilters[] = {"vm",       "owner", "verdict", "reason",
                                               "protocol", "ip",    "port"};

struct FlowRow {
    std::string time;       // RFC 3339, UTC, nanoseconds
    std::string switch_id;  // "sw-1"
    std::string direction;  // "in": from an uplink, "out": from a VM's port
    std::string in_port;
    // Empty: dropped, copied to several, or the kernel's bridge decides.
    std::string out_port;
    std::string vm;     // empty: no managed one's
    std::string owner;  // whose backend receives it, or sent it
    // "tcp", "udp", "icmp", "icmpv6", "sctp", "arp", "vlan", "ethernet" (neither IP nor ARP), "unknown" (cut short
    // or broken), else the number
    std::string protocol;
    std::string source, destination;
    std::uint16_t source_port = 0, destination_port = 0;  // 0: has none
    std::string tcp_flags;                                // "SYN,ACK"
    std::uint32_t length = 0;                             // of the frame
    std::string source_mac, destination_mac;
    std::string verdict;  // "pass", "forward", "both", "answer", "drop", "refuse"
    std::string reason;
};
BOOST_DESCRIBE_STRUCT(FlowRow, (),
                      (time, switch_id, direction, in_port, out_port, vm, owner, protocol, source,
                       destination, source_port, destination_port, tcp_flags, length, source_mac,
                       destination_mac, verdict, reason))

struct FlowList {
    std::vector<FlowRow> flows;  // oldest first
    std::uint64_t lost = 0;      // samples that could not be kept, since the switch started
};
BOOST_DESCRIBE_STRUCT(FlowList, (), (flows, lost))

// Something is missing here. where "switch": the plane had no room or was not allowed to write more;
// "reader": who listens is too slow.
struct FlowGap {
    std::uint64_t lost = 0;
    std::string where;
};
BOOST_DESCRIBE_STRUCT(FlowGap, (), (lost, where))

struct FlowSampling {
    std::uint32_t every = 0;           // one packet in so many, by chance; 0: none
    std::vector<std::string> always;   // reasons of which every packet is told
    std::uint32_t per_second = 10000;  // at most so many records; more are counted as lost
};
BOOST_DESCRIBE_STRUCT(FlowSampling, (), (every, always, per_second))

struct FlowSamplingStatus {
    // As it was set. Nothing set: it samples only while somebody follows, see `now`.
    FlowSampling wanted;
    FlowSampling now;
    std::uint64_t followers = 0, recorded = 0, lost = 0;
};
BOOST_DESCRIBE_STRUCT(FlowSamplingStatus, (), (wanted, now, followers, recorded, lost))

struct CaptureRequest {
    std::string vm;        // empty: any
    std::string protocol;  // "tcp", "udp", ... or a number; empty: any
    // Up to two: "10.1.0.10:80", "[fd00::10]:80", "10.0.0.9", ":443". A frame matches when it goes from the one to
    // the other, in either direction.
    std::vector<std::string> ends;
    std::uint32_t count = 1000;  // ends after so many frames, 1 to 1000000
    std::uint32_t seconds = 60;  // or after this time, 1 to 3600
    std::uint32_t snap = 256;    // bytes of each frame, 14 to 2048
};
BOOST_DESCRIBE_STRUCT(CaptureRequest, (), (vm, protocol, ends, count, seconds, snap))

struct Capture {
    std::string id;
    CaptureRequest request;
};
BOOST_DESCRIBE_STRUCT(Capture, (), (id, request))

struct CapturedFrame {
    std::uint64_t time_ns = 0;  // since 1970, UTC
    std::uint32_t length = 0;   // of the whole frame
    std::string bytes;          // base64
    FlowRow flow;
};
BOOST_DESCRIBE_STRUCT(CapturedFrame, (), (time_ns, length, bytes, flow))

struct CaptureEnd {
    std::string why;  // "count", "time", "stopped"
    std::uint64_t frames = 0, lost = 0;
};
BOOST_DESCRIBE_STRUCT(CaptureEnd, (), (why, frames, lost))

}  // namespace godwit::protocol
