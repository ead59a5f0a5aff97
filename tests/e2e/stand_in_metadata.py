#!/usr/bin/env python3
"""A stand-in for EC2's instance metadata service (IMDSv2), as far as the guard of `idle_stop` asks it. Not AWS's.

stand_in_metadata.py FOLDER ADDRESS: what lies in FOLDER is what it says (spot/instance-action is FOLDER/instance-action, and so on); a
file that is not there is a 404. It writes its base URL to FOLDER/url, and each request to FOLDER/requests.
"""

import http.server
import os
import sys

FOLDER, ADDRESS = sys.argv[1], sys.argv[2]
TOKEN = "an-example-no-secret"
FILES = {
    "/latest/meta-data/instance-life-cycle": "life-cycle",
    "/latest/meta-data/spot/instance-action": "instance-action",
    "/latest/meta-data/events/recommendations/rebalance": "rebalance",
}


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b""):
        with open(os.path.join(FOLDER, "requests"), "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {status}\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        asked = self.path == "/latest/api/token" and self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
        self.answer(200, TOKEN.encode()) if asked else self.answer(400)

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:  # IMDSv1 is refused, as on instances of gpustrap's
            return self.answer(401)
        path = os.path.join(FOLDER, FILES.get(self.path, "nothing"))
        if not os.path.exists(path):
            return self.answer(404)
        with open(path, "rb") as file:
            return self.answer(200, file.read())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)
with open(os.path.join(FOLDER, "url.new"), "w", encoding="utf-8") as out:
    out.write(f"http://{ADDRESS}:{server.server_port}")
os.rename(os.path.join(FOLDER, "url.new"), os.path.join(FOLDER, "url"))
server.serve_forever()
