#!/usr/bin/env python3
"""Starts a program, waits until it has asked somebody who never answers, sends it a signal, and says how it left.

leave.py tcp|udp PORT SIGNAL PROGRAM…   PORT 0 takes any; `{port}` in the program's words is the one that was taken.
"""

import os
import signal
import socket
import subprocess
import sys
import time

kind, port, name, words = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
nobody = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
nobody.bind(("127.0.0.1", port))
nobody.settimeout(30)
if kind == "tcp":
    nobody.listen(8)
port = nobody.getsockname()[1]
config = os.path.expanduser("~/ssh_config")  # of the suite's ssh
if os.path.exists(config):
    with open(config, encoding="utf-8") as file:
        text = file.read()
    with open(config, "w", encoding="utf-8") as file:
        file.write(text.replace("{port}", str(port)))


def in_session(leader):
    """Processes of the program's session that are still there."""
    found = []
    for one in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{one}/stat", encoding="utf-8") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            with open(f"/proc/{one}/cmdline", encoding="utf-8") as file:
                command = file.read().replace("\0", " ").strip()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(command or one)
    return found


program = subprocess.Popen([word.replace("{port}", str(port)) for word in words], start_new_session=True,
                           preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
heard = nobody.accept() if kind == "tcp" else nobody.recvfrom(512)
began = time.monotonic()
program.send_signal(getattr(signal, name))
try:
    program.wait(20)
except subprocess.TimeoutExpired:
    program.kill()
took = time.monotonic() - began
left = in_session(program.pid)
while left and time.monotonic() - began < 5:  # a signal takes a moment to be delivered
    time.sleep(0.02)
    left = in_session(program.pid)
print(f"exit {program.wait()}, {'at once' if took < 1.5 else f'after {took:.1f} s'}, left behind: {', '.join(left) or 'nothing'}", flush=True)
for one in left:
    print(one)
if left:
    os.killpg(program.pid, signal.SIGKILL)
