#!/usr/bin/env python3
"""A stand-in for a lab's forward proxy: what leaves a host goes through it, and it writes down what did.

    proxy.py --state DIR [--bind ADDRESS] [--map NAME=ADDRESS:PORT]…

It knows CONNECT, and GET, HEAD and POST of http:// addresses, one request a connection. A NAME that is mapped is known to nobody else:
what arrives from there has come through the proxy.

Writes to the state directory: address (http://ADDRESS:PORT, once it listens) and requests (one line a request: method and target).
"""
import argparse
import asyncio
import pathlib
import signal
import urllib.parse


class Proxy:
    def __init__(self, state, places):
        self.places = places
        self.log = open(state / "requests", "a", buffering=1, encoding="utf-8")

    async def connection(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            self.log.write(f"{method} {target}\n")
            await (self.tunnel if method == "CONNECT" else self.forward)(reader, writer, target, head)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def open(self, host, port):
        place = self.places.get(host, f"{host}:{port}")
        address, _, number = place.rpartition(":")
        return await asyncio.open_connection(address, int(number))

    async def tunnel(self, reader, writer, target, _head):
        host, _, port = target.rpartition(":")
        try:
            far_reader, far_writer = await self.open(host, port)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def forward(self, reader, writer, target, head):
        url = urllib.parse.urlsplit(target)
        try:
            far_reader, far_writer = await self.open(url.hostname, url.port or 80)
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        path = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
        first, rest = head.split(b"\r\n", 1)
        lines = [line for line in rest.split(b"\r\n") if line and not line.lower().startswith((b"proxy-", b"connection:"))]
        request = [first.split(b" ")[0] + b" " + path.encode("latin-1") + b" HTTP/1.1", *lines, b"Connection: close", b"", b""]
        far_writer.write(b"\r\n".join(request))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


async def pump(reader, writer):
    """To the end of what comes; the end is passed on."""
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def serve(arguments):
    arguments.state.mkdir(parents=True, exist_ok=True)
    proxy = Proxy(arguments.state, dict(item.split("=", 1) for item in arguments.map))
    server = await asyncio.start_server(proxy.connection, arguments.bind, 0)
    address, port = server.sockets[0].getsockname()[:2]
    temporary = arguments.state / "address.new"
    temporary.write_text(f"http://{address}:{port}")
    temporary.rename(arguments.state / "address")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--state", type=pathlib.Path, required=True)
parser.add_argument("--bind", default="127.0.0.1")
parser.add_argument("--map", action="append", default=[], metavar="NAME=ADDRESS:PORT")
asyncio.run(serve(parser.parse_args()))
