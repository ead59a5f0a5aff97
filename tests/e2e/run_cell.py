#!/usr/bin/python3
"""Runs one cell in a new kernel of a notebook server and prints its output: run_cell.py URL CODE.

What a browser does behind JupyterLab's page: starts a kernel over HTTP and speaks to it over a websocket.
"""
import json
import sys
import urllib.parse
import urllib.request
import uuid

import websocket

LIMIT = 60  # seconds; a kernel starts within a few


def main():
    url = urllib.parse.urlsplit(sys.argv[1])
    token = urllib.parse.parse_qs(url.query)["token"][0]
    allow = {"Authorization": "token " + token}
    request = urllib.request.Request(f"http://{url.netloc}/api/kernels", b"{}", allow, method="POST")
    kernel = json.load(urllib.request.urlopen(request, timeout=LIMIT))["id"]
    channel = websocket.create_connection(
        f"ws://{url.netloc}/api/kernels/{kernel}/channels", header=[f"Authorization: token {token}"], timeout=LIMIT
    )
    asked = uuid.uuid4().hex
    message = {
        "header": {"msg_id": asked, "msg_type": "execute_request", "username": "", "session": uuid.uuid4().hex, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": sys.argv[2], "silent": False, "store_history": False, "allow_stdin": False},
        "channel": "shell",
    }
    channel.send(json.dumps(message))
    # The reply and the output come by different ways; "idle" is the last that is said about a cell.
    status, idle = None, False
    while status is None or not idle:
        answer = json.loads(channel.recv())
        if answer["parent_header"].get("msg_id") != asked:
            continue
        if answer["msg_type"] == "stream":
            print(answer["content"]["text"], end="")
        elif answer["msg_type"] == "execute_reply":
            status = answer["content"]["status"]
        elif answer["msg_type"] == "status":
            idle = answer["content"]["execution_state"] == "idle"
    channel.close()
    stop = urllib.request.Request(f"http://{url.netloc}/api/kernels/{kernel}", headers=allow, method="DELETE")
    urllib.request.urlopen(stop, timeout=LIMIT)
    return 0 if status == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
