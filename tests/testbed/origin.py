#!/usr/bin/env python3
"""Serves a directory over HTTP and HTTPS as the internet would on a bad day.

    origin.py --root DIR --state DIR [--bind ADDRESS] [--name NAME]…

A path that ends with a slash is that folder's index.html. A bare git repository below it, NAME.git, is served too, as
`git http-backend` does it (smart HTTP, reading only).

Writes to the state directory: http and https (the base URLs, once it listens), ca.pem (a throw-away CA that signed its
certificate) and requests (one line a request: scheme, method, target, Range or -, status, bytes sent).

Faults are asked for by the client, in a first path segment `~fault[;fault…]` or in the query (`?fault&fault`):
    status=CODE       answer with that status and no file
    stall[=N]         send N bytes of the answer (0), then nothing more, holding the connection
    cut[=N]           send N bytes of the answer (half), then close the connection
    reset             with cut: close with a reset, which may also lose bytes that were sent
    slow=N            N bytes a second
    wrong             the first byte of the file differs
    changed           a new ETag for every answer, as a file that is replaced all the time
    norange           Range is ignored
    nolength          neither Content-Length nor chunks: the end is the end of the connection
    redirect=TARGET   302 to TARGET; `http` and `https` mean the same path by that scheme, without the fault
    times=N           only the first N requests of this target meet the fault; later ones are served well
"""
import argparse
import hashlib
import http.server
import itertools
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse

CHUNK = 16 * 1024


def make_certificates(state, names):
    """A CA and a server certificate for the names, valid for a week, made by the openssl command."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=state, check=True, capture_output=True)

    alternatives = ",".join(("IP:" if re.fullmatch(r"[0-9.]+|.*:.*", name) else "DNS:") + name for name in names)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "7", "-subj", "/CN=gpustrap test origin CA",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=gpustrap test origin")
    (state / "server.ext").write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", str(time.time_ns()),
            "-days", "7", "-extfile", "server.ext", "-out", "server.pem")


class Origin:
    """What all connections share."""

    def __init__(self, root, state):
        self.root = root.resolve()
        self.log = open(state / "requests", "a", buffering=1, encoding="utf-8")
        self.lock = threading.Lock()
        self.seen = {}
        self.serial = itertools.count()
        self.bases = {}

    def times_seen(self, target):
        with self.lock:
            self.seen[target] = self.seen.get(target, 0) + 1
            return self.seen[target]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "gpustrap-origin"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def do_POST(self):
        self.sent_to_us = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body=True)

    def parse_target(self):
        path, _, query = self.path.partition("?")
        faults = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        first, _, rest = path.lstrip("/").partition("/")
        first = urllib.parse.unquote(first)  # apt writes %7e
        if first.startswith("~"):
            path = "/" + rest
            faults.update(urllib.parse.parse_qsl(first[1:].replace(";", "&"), keep_blank_values=True))
        times = int(faults.pop("times", 0))
        if times and self.server.origin.times_seen(self.path) > times:
            faults = {}
        return path, faults

    def answer(self, body):
        self.sent, self.code = 0, 0
        try:
            self.serve(body)
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True
        finally:
            line = [self.server.scheme, self.command, self.path, self.headers.get("Range", "-"), str(self.code), str(self.sent)]
            self.server.origin.log.write(" ".join(line) + "\n")

    def start(self, code, headers):
        self.code = code
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def refuse(self, code):
        text = f"{code}\n".encode()
        self.start(code, {"Content-Length": len(text), "Content-Type": "text/plain"})
        if self.command != "HEAD":
            self.wfile.write(text)

    def serve(self, body):
        path, faults = self.parse_target()
        origin = self.server.origin
        if "status" in faults:
            return self.refuse(int(faults["status"]))
        if "redirect" in faults:
            target = faults["redirect"]
            if target in ("http", "https"):
                target = origin.bases[target] + path
            return self.start(302, {"Location": target, "Content-Length": 0})
        git = re.fullmatch(r"(/.+\.git)/(info/refs|git-upload-pack)", path)
        if git:
            return self.serve_git(path, faults)
        if self.command == "POST":
            return self.refuse(405)
        file = (origin.root / urllib.parse.unquote(path + ("index.html" if path.endswith("/") else "")).lstrip("/")).resolve()
        if origin.root not in file.parents or not file.is_file():
            return self.refuse(404)
        content = file.read_bytes()
        if "wrong" in faults and content:
            content = bytes([content[0] ^ 0xFF]) + content[1:]
        tag = hashlib.sha256(content).hexdigest()[:16]
        if "changed" in faults:
            tag += f"-{next(origin.serial)}"
        self.send_content(content, "text/html" if file.suffix == ".html" else "application/octet-stream", f'"{tag}"', faults, body)

    def serve_git(self, path, faults):
        environment = {
            "PATH": os.environ["PATH"], "HOME": "/", "GIT_PROJECT_ROOT": str(self.server.origin.root), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": self.path.partition("?")[2], "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "REMOTE_ADDR": self.client_address[0],
        }
        said = subprocess.run(["git", "http-backend"], input=getattr(self, "sent_to_us", b""), env=environment, stdout=subprocess.PIPE, check=True)
        head, _, content = said.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        code = int(headers.pop("Status", "200").split()[0])
        headers["Content-Length"] = len(content)
        self.start(code, headers)
        self.send_body(content, faults)

    def send_content(self, content, kind, tag, faults, body):
        headers = {"Content-Type": kind, "ETag": tag}
        code, total, begin = 200, len(content), 0
        if "norange" not in faults:
            headers["Accept-Ranges"] = "bytes"
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and self.headers.get("If-Range", tag) == tag:
                begin, end = int(wanted[1]), int(wanted[2] or total - 1)
                if begin >= total:
                    return self.start(416, {"Content-Range": f"bytes */{total}", "Content-Length": 0})
                code, content = 206, content[begin:end + 1]
                headers["Content-Range"] = f"bytes {begin}-{begin + len(content) - 1}/{total}"
        if "nolength" in faults:
            self.close_connection = True
            headers["Connection"] = "close"
        else:
            headers["Content-Length"] = len(content)
        self.start(code, headers)
        if body:
            self.send_body(content, faults)

    def send_body(self, content, faults):
        limit = len(content)
        if "cut" in faults:
            limit = min(limit, int(faults["cut"] or limit // 2))
        if "stall" in faults:
            limit = min(limit, int(faults["stall"] or 0))
        pace = int(faults.get("slow", 0))
        chunk = max(1, min(CHUNK, pace // 10)) if pace else CHUNK
        for at in range(0, limit, chunk):
            piece = content[at:min(at + chunk, limit)]
            self.wfile.write(piece)
            self.sent += len(piece)
            if pace:
                time.sleep(len(piece) / pace)
        if "stall" in faults:
            self.wfile.flush()
            self.connection.recv(1)  # returns when the client gives up
            self.close_connection = True
        elif limit < len(content):
            self.close_connection = True
            if "reset" in faults:
                self.close_with_reset()

    def close_with_reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, scheme, origin, tls=None):
        super().__init__((address, 0), Handler)
        self.scheme, self.origin, self.tls = scheme, origin, tls
        origin.bases[scheme] = f"{scheme}://{address}:{self.server_port}"

    def finish_request(self, request, client_address):
        if self.tls:  # in the connection's own thread: a client that never speaks must not hold up the others
            request.settimeout(60)
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
            request.settimeout(None)
        try:
            super().finish_request(request, client_address)
        finally:
            if self.tls:
                request.close()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main():
    arguments = argparse.ArgumentParser(description="a web server with faults, for tests")
    arguments.add_argument("--root", type=pathlib.Path, required=True)
    arguments.add_argument("--state", type=pathlib.Path, required=True)
    arguments.add_argument("--bind", default="127.0.0.1")
    arguments.add_argument("--name", action="append", default=[], help="a further name the certificate is for")
    options = arguments.parse_args()

    options.state.mkdir(parents=True, exist_ok=True)
    make_certificates(options.state, [options.bind, "localhost", *options.name])
    origin = Origin(options.root, options.state)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(options.state / "server.pem", options.state / "server.key")
    servers = [Server(options.bind, "http", origin), Server(options.bind, "https", origin, tls)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    for server in servers:  # renamed into place: whoever waits for the file finds it whole
        (options.state / ".new").write_text(origin.bases[server.scheme] + "\n")
        os.replace(options.state / ".new", options.state / server.scheme)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
