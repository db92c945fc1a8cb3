"""Servers for more than a buffer holds, in a place each, on both families."""
import contextlib
import os
import socket
import threading

from places import in_place

BULK = 3_000_000
CHANGED = bytes(one ^ 0xff for one in range(256))


class Giver:
    """Sends as many bytes as it is asked for; 0: tells who asked."""

    def __init__(self, place, port=7001):
        self.tcp = in_place(place, lambda: socket.create_server(("::", port), family=socket.AF_INET6,
                                                                dualstack_ipv6=True, backlog=64))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, address = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._give, args=(peer, address), daemon=True).start()

    def _give(self, peer, address):
        with contextlib.suppress(OSError), peer:
            while asked := peer.recv(100):
                wanted = int(asked)
                peer.sendall(address[0].removeprefix("::ffff:").encode() if wanted == 0 else bytes(wanted))
                if wanted == 0:
                    return


class Talker:
    """Takes so many bytes and sends them back, changed."""

    def __init__(self, place, port=7002):
        self.tcp = in_place(place, lambda: socket.create_server(("::", port), family=socket.AF_INET6,
                                                                dualstack_ipv6=True, backlog=64))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.tcp.accept()
            with peer, peer.makefile("rb") as told:
                peer.sendall(told.read(BULK).translate(CHANGED))


def is_understood(one):
    """A Talker at the other end of the socket: were all bytes right, there and back?"""
    one.settimeout(30)
    said = os.urandom(BULK)
    one.sendall(said)
    with one.makefile("rb") as answers:
        return answers.read(BULK) == said.translate(CHANGED)
