#!/usr/bin/env python3
"""on_terminal.py COMMAND…: runs it on a terminal of 24 × 100 that shows everything to nobody, and exits with its status."""
import fcntl
import os
import pty
import struct
import sys
import termios

pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    os.environ["TERM"] = "xterm-256color"
    os.execvp(sys.argv[1], sys.argv[1:])
last = b""
while True:
    try:
        piece = os.read(terminal, 1 << 20)
    except OSError:
        break
    if not piece:
        break
    last = (last + piece)[-4000:]
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
if status != 0:
    sys.stderr.buffer.write(last)
sys.exit(status)
