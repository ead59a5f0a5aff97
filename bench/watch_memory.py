#!/usr/bin/env python3
"""watch_memory.py PREFIX: the most memory that programs whose file name starts with PREFIX took, until a line on stdin.

Prints in MiB "largest N", the most that one process ever held resident (the kernel's own high-water mark), and "together N", the
most that all of them held at one time, shared pages counted once.
"""
import os
import re
import select
import sys

INTERVAL = 0.02  # a process younger than this may be missed; one that holds much memory is not that young


def kilobytes(path, field):
    with open(path) as text:
        found = re.search(rf"^{field}:\s+(\d+) kB", text.read(), re.MULTILINE)
    return int(found.group(1)) if found else 0


def processes(prefix):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith(prefix):
                yield pid
        except OSError:
            continue  # it ended, or is the kernel's


largest = together = 0
while not select.select([sys.stdin], [], [], INTERVAL)[0]:
    total = 0
    for pid in processes(sys.argv[1]):
        try:
            largest = max(largest, kilobytes(f"/proc/{pid}/status", "VmHWM"))
            total += kilobytes(f"/proc/{pid}/smaps_rollup", "Pss")
        except OSError:
            continue
    together = max(together, total)
if largest == 0:
    sys.exit(f"watch_memory: no process of {sys.argv[1]} was seen")
print(f"largest {largest / 1024:.1f}")
print(f"together {together / 1024:.1f}")
