#!/usr/bin/python3
"""Sends forged TCP segments to the guest from the client's namespace, and stops by itself.

usage: flood.py syn|ack COUNT MAC          to 10.1.0.10 port 7000, from addresses nobody has

It answers ARP for the forged addresses, so that the guest's SYN-ACKs really go out.
"""
import errno
import os
import random
import socket
import struct
import sys
import threading

VM = "10.1.0.10"
PORT = 7000
OURS = bytes.fromhex("02000000f00d")
FORGED = ["10.1.0.%d" % host for host in range(64, 80)]
SYN, ACK = 0x02, 0x10


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(flags, source, mac):
    """An Ethernet frame with one TCP segment without payload, checksums right."""
    addresses = socket.inet_aton(source) + socket.inet_aton(VM)
    fields = [random.randrange(1024, 65536), PORT, random.getrandbits(32), random.getrandbits(32) if flags & ACK else 0,
              5 << 4, flags, 64240, 0, 0]
    tcp = struct.pack("!HHIIBBHHH", *fields)
    fields[7] = checksum(addresses + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
    tcp = struct.pack("!HHIIBBHHH", *fields)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), random.getrandbits(16), 0x4000, 64, 6, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return mac + OURS + b"\x08\x00" + header + tcp


def answer_arp():
    """Tells whoever asks that the forged addresses are at our MAC."""
    listening = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    listening.bind(("eth0", 0x0806))
    wanted = {socket.inet_aton(address) for address in FORGED}
    while True:
        frame = listening.recv(2048)
        if frame[20:22] != b"\0\1" or frame[38:42] not in wanted:
            continue
        listening.send(frame[6:12] + OURS + b"\x08\x06" + frame[14:20] + b"\0\2" + OURS + frame[38:42] + frame[22:32])


def send(sending, frame):
    """The other end's ring may be full; nothing tells when it has room again, but whoever empties it needs our core."""
    while True:
        try:
            sending.send(frame)
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
        os.sched_yield()


def main():
    kind, count, mac = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3].replace(":", ""))
    threading.Thread(target=answer_arp, daemon=True).start()
    sending = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sending.bind(("eth0", 0))
    flags = {"syn": SYN, "ack": ACK}[kind]
    for _ in range(count):
        send(sending, segment(flags, random.choice(FORGED), mac))
    print(count)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
