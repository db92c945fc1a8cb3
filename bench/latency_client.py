#!/usr/bin/python3
"""Sessions to recordd (lab/guest/recordd.h), each asking at a steady pace and noting how long every answer took. Told
line by line on stdin, for client_view.py:

  open GROUP COUNT EVERY_MS     so many sessions, each with a request every so many ms; answers "opened"
  phase NAME                    what is measured from now on belongs to it
  close GROUP                   its sessions end in order
  end                           prints {"GROUP/PHASE": {requests, p50_ms, ..., buckets}, "broken": [...]}

Times run from the moment a request was due, not from when it was sent: a stall counts for every request that it
held up.
"""
import asyncio
import json
import struct
import sys

HOST, PORT, PAYLOAD = "10.1.0.10", 7000, bytes(64)
BUCKETS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Client:
    def __init__(self):
        self.phase, self.taken, self.broken, self.groups, self.sessions = "before", {}, [], {}, 0

    async def ask(self, reader, writer, kind, payload):
        writer.write(kind + b"\0" + struct.pack(">H", len(payload)) + payload)
        await writer.drain()
        head = await reader.readexactly(4)
        return await reader.readexactly(struct.unpack(">H", head[2:])[0])

    async def session(self, group, number, every_s, opened):
        loop = asyncio.get_running_loop()
        try:
            reader, writer = await asyncio.open_connection(HOST, PORT)
            await self.ask(reader, writer, b"H", struct.pack("<Q", number))
            opened.set_result(True)
            due = loop.time() + every_s * (number % 16) / 16
            while group in self.groups:
                await asyncio.sleep(max(0.0, due - loop.time()))
                phase = self.phase
                await self.ask(reader, writer, b"D", PAYLOAD)
                self.taken.setdefault(f"{group}/{phase}", []).append(1000 * (loop.time() - due))
                due += every_s
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError) as error:
            self.broken.append(f"{group} {number}: {error!r}")
            if not opened.done():
                opened.set_result(False)

    async def open(self, group, count, every_ms):
        loop, opened = asyncio.get_running_loop(), []
        self.groups[group] = []
        for _ in range(count):
            self.sessions += 1
            opened.append(loop.create_future())
            self.groups[group].append(loop.create_task(self.session(group, self.sessions, every_ms / 1000, opened[-1])))
        await asyncio.gather(*opened)

    async def close(self, group):
        await asyncio.gather(*self.groups.pop(group))

    def summary(self):
        found = {name: shape(sorted(times)) for name, times in self.taken.items()}
        return found | {"broken": self.broken}


def shape(times):
    at = lambda share: times[min(len(times) - 1, int(share * len(times)))]
    buckets, rest = [], list(times)
    for edge in BUCKETS_MS:
        buckets.append(sum(1 for one in rest if one <= edge))
        rest = [one for one in rest if one > edge]
    return {"requests": len(times), "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": times[-1],
            "buckets": dict(zip([f"<= {edge} ms" for edge in BUCKETS_MS] + ["more"], buckets + [len(rest)]))}


async def main():
    client, loop = Client(), asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while words := (await lines.readline()).decode().split():
        if words[0] == "open":
            await client.open(words[1], int(words[2]), int(words[3]))
        elif words[0] == "phase":
            client.phase = words[1]
        elif words[0] == "close":
            await client.close(words[1])
        elif words[0] == "end":
            break
        print(json.dumps(words[0]), flush=True)
    for group in list(client.groups):
        await client.close(group)
    print(json.dumps(client.summary()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
