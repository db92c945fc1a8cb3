#!/usr/bin/python3
"""Reads a migration region (godwit_region.h) without the C library: for tools, tests and dashboards.

    with godwit_region.open("/dev/dax0.0") as region:
        print(region.role, region.epoch)
        for slot in region["sessions"].used():
            print(slot.tag, slot.payload)
        for record in region["audit"].records():
            print(record)

Only reads. A file of the host has the data behind the label area of 2 MiB, which is noticed. RegionError says
what is wrong with a header; everything a header claims is checked against the file before it is used.

usage: godwit_region.py REGION      prints what the region holds, as JSON
"""
import collections
import io
import json
import mmap
import os
import stat
import struct
import sys

MAGIC = 0x4752544957444F47
VERSION = 1
LINE_BYTES = 64
HEADER_BYTES = 4096
LABEL_BYTES = 0x200000
CLASSES_MAX = 32
RULES = ("fail", "source-wins", "destination-wins", "add-delta", "max", "append")
KINDS = ("fixed", "allocated", "log")
ROLES = ("sole", "source", "clone")
FREE, USED, CLAIMED = range(3)

_HEAD = struct.Struct("<QIIQII")      # magic, version, header bytes, data bytes, classes, line bytes
_CLASS = struct.Struct("<24sIIIIQ")   # name, rule, kind, slot bytes, slots, offset
_SLOT = struct.Struct("<QQQ")         # state, tag, born
Slot = collections.namedtuple("Slot", "index tag role epoch payload")


class RegionError(Exception):
    """What is wrong with the region."""


def _role(word):
    if word & 0xFF >= len(ROLES):
        raise RegionError(f"the role word says {word & 0xFF}, which is no role")
    return ROLES[word & 0xFF], word >> 8


class SlotClass:
    """One class of slots. `slots` is what the application asked for."""

    def __init__(self, data, line):
        name, rule, kind, self.slot_bytes, count, self.offset = line
        if rule >= len(RULES) or kind >= len(KINDS):
            raise RegionError("the header names a merge rule or a kind of slot this version does not know")
        if b"\0" not in name:
            raise RegionError("the header names a slot class without an end of its name")
        self.name = name.split(b"\0", 1)[0].decode(errors="replace")
        self.rule, self.kind = RULES[rule], KINDS[kind]
        self.end = self.offset + self.slot_bytes * count
        if self.slot_bytes == 0 or self.slot_bytes % LINE_BYTES or self.offset % LINE_BYTES:
            raise RegionError(f"slot class {self.name} is not made of whole 64-byte lines")
        if (self.rule == "append") != (self.kind == "log") or (
                self.kind == "log" and (count < 2 or self.slot_bytes < 2 * LINE_BYTES)):
            raise RegionError(f"{self.name} is a log without rule append, or one without room for a record")
        self.slots = count - 1 if self.kind == "log" else count
        self._data = data

    def _bytes(self, index):
        begin = self.offset + index * self.slot_bytes
        return self._data[begin:begin + self.slot_bytes]

    def payload(self, index):
        """The bytes of a slot; of an allocated class without its state line."""
        if self.kind == "log" or not 0 <= index < self.slots:
            raise IndexError(index)
        return self._bytes(index)[LINE_BYTES if self.kind == "allocated" else 0:]

    def words(self, index):
        """A fixed slot as unsigned 64-bit words: what add-delta and max reckon with."""
        return struct.unpack(f"<{self.slot_bytes // 8}Q", self.payload(index))

    def used(self):
        """The slots in use of an allocated class."""
        if self.kind != "allocated":
            raise TypeError(f"{self.name} is {self.kind}, its slots are always there")
        for index in range(self.slots):
            bytes_ = self._bytes(index)
            state, tag, born = _SLOT.unpack_from(bytes_)
            if state == USED:
                yield Slot(index, tag, *_role(born), bytes_[LINE_BYTES:])

    def log_count(self):
        """How many places of a log are taken."""
        if self.kind != "log":
            raise TypeError(f"{self.name} is no log")
        return min(struct.unpack_from("<Q", self._bytes(0))[0], self.slots)

    def records(self):
        """The finished records of a log, in order."""
        for index in range(self.log_count()):
            bytes_ = self._bytes(index + 1)
            state, length, _ = _SLOT.unpack_from(bytes_)
            if state == USED and length <= self.slot_bytes - LINE_BYTES:
                yield bytes_[LINE_BYTES:LINE_BYTES + length]


class Region:
    """A region that is open. Classes by name: region["sessions"]."""

    def __init__(self, data):
        self._map = data
        at = 0 if self._has_header(data, 0) or not self._has_header(data, LABEL_BYTES) else LABEL_BYTES
        self._data = memoryview(data)[at:]
        if len(self._data) < HEADER_BYTES:
            raise RegionError("the region is smaller than its header")
        magic, version, header_bytes, self.data_bytes, count, line_bytes = _HEAD.unpack_from(self._data)
        if (magic, version, header_bytes, line_bytes) != (MAGIC, VERSION, HEADER_BYTES, LINE_BYTES):
            raise RegionError("the region has no header, or one of another version")
        if count > CLASSES_MAX:
            raise RegionError("the header counts more slot classes than there is room for")
        if not HEADER_BYTES <= self.data_bytes <= len(self._data):
            raise RegionError("the header claims more bytes than the region has")
        self.classes = [SlotClass(_Bytes(self._data), _CLASS.unpack_from(self._data, (2 + i) * LINE_BYTES))
                        for i in range(count)]
        end = HEADER_BYTES
        for one in self.classes:
            if one.offset < end or one.end > self.data_bytes:
                raise RegionError(f"slot class {one.name} overlaps another or lies outside of the region")
            end = one.end

    @staticmethod
    def _has_header(data, at):
        return len(data) >= at + HEADER_BYTES and _HEAD.unpack_from(data, at)[0] == MAGIC

    @property
    def role(self):
        return _role(struct.unpack_from("<Q", self._data, LINE_BYTES)[0])[0]

    @property
    def epoch(self):
        return _role(struct.unpack_from("<Q", self._data, LINE_BYTES)[0])[1]

    def __getitem__(self, name):
        for one in self.classes:
            if one.name == name:
                return one
        raise KeyError(name)

    def close(self):
        self._data.release()
        if isinstance(self._map, mmap.mmap):
            self._map.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Bytes:
    """Copies out of the mapping: what is handed out does not change under the reader, nor keep it open."""

    def __init__(self, view):
        self._view = view

    def __getitem__(self, part):
        return bytes(self._view[part])


def _size_of(fd):
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode):
        return status.st_size
    # devdax tells its size in sysfs.
    device = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    with io.open(f"/sys/dev/char/{device}/size") as file:
        return int(file.read())


def open(path):  # noqa: A001  like gzip.open: meant to be called by its module's name
    """Opens a region for reading: a devdax device, or a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = _size_of(fd)
        if size < HEADER_BYTES:
            raise RegionError("the region is smaller than its header")
        data = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
    finally:
        os.close(fd)
    return Region(data)


def summary(region):
    """What main() prints."""
    classes = []
    for one in region.classes:
        said = {"name": one.name, "rule": one.rule, "kind": one.kind, "offset": one.offset,
                "slot_bytes": one.slot_bytes, "slots": one.slots}
        if one.kind == "allocated":
            said["used"] = sum(1 for _ in one.used())
        if one.kind == "log":
            said["used"] = one.log_count()
        classes.append(said)
    return {"version": VERSION, "role": region.role, "epoch": region.epoch, "data_bytes": region.data_bytes,
            "classes": classes}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1]) as region:
            print(json.dumps(summary(region), indent=2))
    except (OSError, RegionError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
