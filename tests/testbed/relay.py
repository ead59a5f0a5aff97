#!/usr/bin/env python3
"""Relays TCP to one place, as a link that is slow, stands still or breaks on command, and counts what passes.

    relay.py --to ADDRESS:PORT --state DIR [--bind ADDRESS]     relays; writes its address to DIR/address once it listens
    relay.py --state DIR COMMAND                                tells a running relay:
        latency MS    every byte from now on arrives that much later, each way
        bandwidth M   no more than M Mbit/s each way, through a buffer of 100 ms as in a router, which all connections made from now on
                      share; one whose reader has stopped takes nothing of it. 0: as much as comes
        stall         nothing passes any more; connections stay open
        go            everything passes again, what was held back first
        cut           resets every connection; new ones are welcome
        refuse        cut, and new connections are refused until `go`
        stats         prints connections, bytes up (to the host) and down, and turns, as JSON; how many connections are open, and
                      bytes and turns of the newest as `last`

A turn is counted each time the client speaks after the host did: what a round trip costs, the link pays per turn.
"""
import argparse
import asyncio
import json
import pathlib
import signal
import socket
import struct
import sys

BUFFER_SECONDS = 0.1
# Of a narrow link: what is read at once, and what a socket at either end of it holds. What lies there has passed the link, or has yet to.
CHUNK, SOCKET_BYTES = 16384, 16384


class Relay:
    def __init__(self, host, port):
        self.host, self.port = host, port
        self.latency = 0.0
        self.bandwidth = 0.0  # bytes a second; 0: no limit
        self.free_at = {"up": 0.0, "down": 0.0}  # when the link has sent all that it was given
        self.refusing = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.writers = set()
        self.stats = {"connections": 0, "up": 0, "down": 0, "turns": 0}
        self.last = "down"
        self.newest = None

    def count(self, direction, size, connection):
        self.stats[direction] += size
        if direction == "up" and self.last == "down":
            self.stats["turns"] += 1
        self.last = direction
        connection[direction] += size
        if direction == "up" and connection["spoke"] == "down":
            connection["turns"] += 1
        connection["spoke"] = direction

    def told(self):
        last = {name: value for name, value in (self.newest or {}).items() if name != "spoke"}
        return {**self.stats, "open": len(self.writers) // 2, "last": last}

    async def connection(self, reader, writer):
        if self.refusing:
            reset(writer)
            return
        try:
            far_reader, far_writer = await self.far_end()
        except OSError:
            reset(writer)
            return
        if self.bandwidth:
            bound(writer.get_extra_info("socket"))
            for end in (writer, far_writer):
                end.transport.set_write_buffer_limits(high=CHUNK)
        self.stats["connections"] += 1
        numbers = self.newest = {"up": 0, "down": 0, "turns": 0, "spoke": "down"}
        pair = {writer, far_writer}
        self.writers |= pair
        await asyncio.gather(self.pass_on(reader, far_writer, "up", numbers),
                             self.pass_on(far_reader, writer, "down", numbers))
        self.writers -= pair
        for end in pair:
            end.close()

    async def far_end(self):
        if not self.bandwidth:
            return await asyncio.open_connection(self.host, self.port)
        loop = asyncio.get_running_loop()
        family, kind, protocol, _, address = (await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))[0]
        end = socket.socket(family, kind, protocol)
        try:
            end.setblocking(False)
            bound(end)
            await loop.sock_connect(end, address)
            return await asyncio.open_connection(sock=end, limit=CHUNK)
        except OSError:
            end.close()
            raise

    def room(self):
        """What one connection may have on its way: its part of the buffer, and what is in flight."""
        return max(2 * CHUNK, self.bandwidth * (self.latency + BUFFER_SECONDS / max(1, len(self.writers) // 2)))

    def arrival(self, direction, size):
        """When what is sent now is there, and how long the sender has to wait until the link takes more."""
        now = asyncio.get_running_loop().time()
        if not self.bandwidth:
            return now + self.latency, 0.0
        free_at = max(now, self.free_at[direction]) + size / self.bandwidth
        self.free_at[direction] = free_at
        return free_at + self.latency, free_at - now - BUFFER_SECONDS

    async def pass_on(self, reader, writer, direction, numbers):
        """One task reads and stamps, another delivers when due: latency delays bytes without thinning them out. Of a narrow link no
        more is on its way than it holds, or a reader that has stopped would use up what others could have."""
        loop = asyncio.get_running_loop()
        queue = asyncio.Queue(maxsize=4096)
        queued, taken = 0, asyncio.Event()

        async def receive():
            nonlocal queued
            while True:
                while self.bandwidth and queued >= self.room():
                    taken.clear()
                    await taken.wait()
                try:
                    data = await reader.read(CHUNK if self.bandwidth else 65536)
                except OSError:
                    data = b""
                due, full_for = self.arrival(direction, len(data))
                queued += len(data)
                await queue.put((due, data))
                if not data:
                    return
                if full_for > 0:
                    await asyncio.sleep(full_for)

        async def deliver():
            nonlocal queued
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self.flowing.wait()
                try:
                    if not data:
                        if writer.can_write_eof():
                            writer.write_eof()
                        return
                    self.count(direction, len(data), numbers)
                    writer.write(data)
                    await writer.drain()
                except (OSError, RuntimeError):
                    return
                queued -= len(data)
                taken.set()

        receiving = asyncio.create_task(receive())
        await deliver()
        receiving.cancel()

    def cut(self):
        for writer in list(self.writers):
            reset(writer)

    def obey(self, command, argument):
        if command == "latency":
            self.latency = float(argument) / 1000
        elif command == "bandwidth":
            self.bandwidth = float(argument) * 1e6 / 8
        elif command == "stall":
            self.flowing.clear()
        elif command == "go":
            self.refusing = False
            self.flowing.set()
        elif command == "cut":
            self.cut()
        elif command == "refuse":
            self.refusing = True
            self.cut()
        elif command == "stats":
            return json.dumps(self.told())
        else:
            return f"error: no command '{command}'"
        return "ok"


def bound(end):
    for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BYTES)


def reset(writer):
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def serve(options):
    host, _, port = options.to.rpartition(":")
    relay = Relay(host, int(port))

    async def control(reader, writer):
        command, _, argument = (await reader.readline()).decode().strip().partition(" ")
        writer.write((relay.obey(command, argument) + "\n").encode())
        await writer.drain()
        writer.close()

    options.state.mkdir(parents=True, exist_ok=True)
    await asyncio.start_unix_server(control, path=str(options.state / "control"))
    server = await asyncio.start_server(relay.connection, options.bind, 0)
    port = server.sockets[0].getsockname()[1]
    (options.state / ".new").write_text(f"{options.bind}:{port}\n")
    (options.state / ".new").rename(options.state / "address")
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    relay.cut()


def tell(state, words):
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(state / "control"))
        control.sendall((" ".join(words) + "\n").encode())
        answer = control.makefile().readline().strip()
    if answer != "ok":
        print(answer)
    return 1 if answer.startswith("error") else 0


def main():
    arguments = argparse.ArgumentParser(description="a TCP relay with the faults of a link, for tests")
    arguments.add_argument("--state", type=pathlib.Path, required=True)
    arguments.add_argument("--to")
    arguments.add_argument("--bind", default="127.0.0.1")
    arguments.add_argument("command", nargs="*")
    options = arguments.parse_args()
    if bool(options.to) == bool(options.command):
        arguments.error("either --to or a command")
    if options.command:
        sys.exit(tell(options.state, options.command))
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
