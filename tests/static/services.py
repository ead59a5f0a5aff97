#!/usr/bin/env python3
"""A tiny internet for tests/static/run.sh, to be run in a network namespace of its own.

services.py DIR FILES: a DNS server on 127.0.0.1:53 (UDP and TCP), a name server on 127.0.0.9:53 that never answers, and an HTTPS
server on 127.0.0.1:443 with DIR/server.pem that serves what lies in FILES and greets otherwise. Writes "ready" to stdout when all
of them listen, and stops when stdin closes.
"""
import http.server
import os
import socket
import socketserver
import ssl
import struct
import sys
import threading

# name -> addresses; a string is an alias. More than 512 bytes of answer are truncated on UDP and asked for again over TCP.
ZONE = {
    "dns.test": ["127.0.0.1"],
    "alias.test": "dns.test",
    "big.test": ["127.0.0.1"] * 60,
    "wrong.test": ["127.0.0.1"],
    "searched.corp.test": ["127.0.0.1"],
}


def encode_name(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def answer(query, limit):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]
    question = query[12:at + 5]
    name = ".".join(labels).lower()
    records = []
    value = ZONE.get(name)
    known = value is not None
    if isinstance(value, str):
        target = encode_name(value)
        records.append(b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, len(target)) + target)
        owner, value = target, ZONE[value]
    else:
        owner = b"\xc0\x0c"
    if kind == 1:
        for address in value or []:
            records.append(owner + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address))
    code = 0 if known else 3
    body = b"".join(records)
    if 12 + len(question) + len(body) > limit:
        return query[:2] + struct.pack(">HHHHH", 0x8780 | code, 1, 0, 0, 0) + question
    return query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0) + question + body


class DnsOverUdp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(answer(self.request[0], 512), self.client_address)


class DnsOverTcp(socketserver.StreamRequestHandler):
    def handle(self):
        size = struct.unpack(">H", self.rfile.read(2))[0]
        reply = answer(self.rfile.read(size), 65535)
        self.wfile.write(struct.pack(">H", len(reply)) + reply)


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        file = os.path.join(sys.argv[2], os.path.basename(self.path))
        body = b"hello from " + self.headers["Host"].encode() + b"\n"
        if os.path.isfile(file):
            with open(file, "rb") as content:
                body = content.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a client that refuses our certificate is what some cases are about


def main():
    folder = sys.argv[1]
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.9", 53))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "server.pem"))
    web = WebServer(("127.0.0.1", 443), Web)
    web.socket = context.wrap_socket(web.socket, server_side=True, do_handshake_on_connect=False)
    servers = [
        socketserver.ThreadingUDPServer(("127.0.0.1", 53), DnsOverUdp),
        socketserver.ThreadingTCPServer(("127.0.0.1", 53), DnsOverTcp),
        web,
    ]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


main()
