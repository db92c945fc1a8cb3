// Frames in several pieces: jumbo frames lie in a linear part and fragments. XDP steers them by their linear part.
// What it cannot do with them is left to tc on the same uplink, which has them as socket buffers: bringing headers
// together that lie further behind (some drivers leave none in the linear part), and sending out of a device that
// takes no fragments from XDP, as a tap does not. So uplink_slow decides whatever is a VM's and comes to it in pieces.
// No mark says so: XDP's metadata does not outlive a packet socket that listens at the uplink (seen on Linux 6.18).
// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
#ifndef GODWIT_EBPF_PIECES_BPF_H
#define GODWIT_EBPF_PIECES_BPF_H

// Ports whose device takes frames in several pieces from XDP, by ifindex. Filled anew with each process.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, PLANE_PORTS_MAX);
    __type(key, uint32_t);
    __type(value, uint32_t);
} piece_ports SEC(".maps");

// Must what is looked at, and rewritten, be brought together first?
STEER_INLINE bool is_cut_short(uint32_t linear, uint32_t bytes)
{
    return linear < bytes && linear < STEER_REACH_BYTES;
}

// A frame in pieces: can XDP not send it to where it belongs?
STEER_INLINE bool is_left_to_slow(const struct steer_outcome *out)
{
    if (!out->vm || out->verdict.action != STEER_FORWARD)
        return false;
    uint32_t ifindex = out->vm->backend[out->verdict.slot & 1].ifindex;
    return !bpf_map_lookup_elem(&piece_ports, &ifindex);
}

#endif
