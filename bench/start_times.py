#!/usr/bin/env python3
"""start_times.py AGENT ROUNDS: milliseconds from starting a program to what it is started for, medians, one "NAME MS" a line.

agent: to the hello on its stdout. nothing: /bin/true, to its exit. python: python3, to a line on its stdout. They take turns, so
that whatever else the machine does meets all of them alike.
"""
import os
import statistics
import sys
import tempfile
import time


def start(command, environment, pipe_ends):
    """Starts the command with its stdin and stdout on pipes; returns its pid."""
    stdin, stdout = pipe_ends
    return os.posix_spawn(command[0], command, environment,
                          file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)])


def time_line(command, environment, wanted):
    """From start to the first line, which must hold `wanted`; None waits for the exit instead."""
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    begin = time.perf_counter()
    pid = start(command, environment, (theirs_in, theirs_out))
    os.close(theirs_in)
    os.close(theirs_out)
    line = b""
    if wanted is not None:
        while b"\n" not in line:
            piece = os.read(ours_out, 65536)
            if not piece:
                break
            line += piece
        took = time.perf_counter() - begin
        if wanted not in line:
            sys.exit(f"start_times: {command[0]} said {line!r}")
        os.close(ours_in)
        os.waitpid(pid, 0)
    else:
        os.waitpid(pid, 0)
        took = time.perf_counter() - begin
        os.close(ours_in)
    os.close(ours_out)
    return took * 1000


def main():
    agent, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "PATH": "/usr/bin:/bin"}
        programs = {
            "agent": ([agent, "serve", "--user"], b'"hello"'),
            "nothing": (["/bin/true"], None),
            "python": (["/usr/bin/python3", "-c", "print()"], b""),
        }
        times = {name: [] for name in programs}
        for _ in range(rounds):
            for name, (command, wanted) in programs.items():
                times[name].append(time_line(command, environment, wanted))
    for name, taken in times.items():
        print(f"{name} {statistics.median(taken):.2f}")


main()
