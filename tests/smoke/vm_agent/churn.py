"""The guest's load on memory that checks itself, lab/guest/churnd.c; the VM has godwit.churn=MIB in its `append`."""
import socket


class Churn:
    """A connection to it, at the guest behind `bridge`."""

    def __init__(self, bridge):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
        self.socket.settimeout(60)
        self.socket.connect(("10.1.0.10", 7001))
        self.stream = self.socket.makefile("rw")

    def ask(self, text):
        """`rate MIB_PER_S LINES`, `stat`, `check`: {"pages": , "errors": , "ns": }"""
        self.stream.write(text + "\n")
        self.stream.flush()
        words = self.stream.readline().split()
        return dict(zip(words[::2], map(int, words[1::2])))

    def close(self):
        self.stream.close()
        self.socket.close()


def churns(bridge):
    try:
        Churn(bridge).close()
        return True
    except OSError:
        return False


def ask(bridge, text):
    churn = Churn(bridge)
    try:
        return churn.ask(text)
    finally:
        churn.close()
