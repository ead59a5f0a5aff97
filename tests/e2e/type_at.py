#!/usr/bin/env python3
"""Types at a shell that has a terminal of its own: type_at.py TEXT EXPECTED SHELL [ARGUMENT…]

The shell's prompt must be "READY>". TEXT may hold \\t for the Tab key. Ends with 0 once EXPECTED stands on the screen behind what was
typed, with 1 and the screen's bytes where it does not within 15 s."""

import os
import pty
import re
import select
import sys
import time

text, expected, shell = sys.argv[1].replace("\\t", "\t"), sys.argv[2], sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    os.environ.update(TERM="dumb", COLUMNS="200")
    os.execvp(shell[0], shell)


def plain(data):
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r|\a", "", data.decode("utf-8", "replace"))
    shown = ""
    for letter in screen:
        shown = shown[:-1] if letter == "\x08" else shown + letter
    return shown


def read_until(wanted, data, seconds):
    ends = time.monotonic() + seconds
    while wanted not in plain(data):
        if time.monotonic() > ends or not select.select([terminal], [], [], 0.2)[0]:
            if time.monotonic() > ends:
                return data, False
            continue
        try:
            data += os.read(terminal, 65536)
        except OSError:
            return data, False
    return data, True


seen, ready = read_until("READY>", b"", 15)
found = False
if ready:
    os.write(terminal, text.encode())
    seen, found = read_until(expected, b"", 15)
os.close(terminal)
os.waitpid(child, 0)
if not found:
    print(f"no {expected!r} on the screen:" if ready else "the shell showed no prompt:", repr(plain(seen)))
sys.exit(0 if found else 1)
