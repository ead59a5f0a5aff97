#!/usr/bin/env python3
"""contest.py [--relay DIR] [--between COMMAND] FILE: runs commands in turn, and tells what each of them took.

FILE has a contestant a line: NAME, a tab, how many times, a tab, the command (words as a shell would split them). They take turns, so
that whatever else the machine does meets all of them alike; each runs once before that without being counted, unless it is to run only
once or twice. A command that fails ends the contest, with its words.

Prints, for each: NAME, median and least seconds, CPU seconds of the command and its children (median), and where a relay is between:
turns, KB to the host and KB from it, as it counts them (medians). Separated by tabs. --between runs after each command, uncounted.
"""
import argparse
import json
import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time


class Contestant:
    def __init__(self, line):
        self.name, rounds, command = line.split("\t")
        self.rounds = int(rounds)
        self.command = shlex.split(command)
        self.runs = []


def relay_stats(state):
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(state / "control"))
        control.sendall(b"stats\n")
        return json.loads(control.makefile().readline())


def settled_stats(state):
    """The last bytes may still be on their way: what is counted once nothing has changed for longer than the link is long."""
    before = relay_stats(state)
    while True:
        time.sleep(0.25)
        now = relay_stats(state)
        if now == before:
            return now
        before = now


def run_once(contestant, relay):
    before = settled_stats(relay) if relay else None
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        pid = os.posix_spawnp(contestant.command[0], contestant.command, os.environ,
                              file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                                            (os.POSIX_SPAWN_DUP2, said.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)])
        _, status, usage = os.wait4(pid, 0)
        took = time.perf_counter() - begin
        if status != 0:
            said.seek(0)
            sys.exit(f"contest: {contestant.name} ended with {os.waitstatus_to_exitcode(status)}:\n"
                     + said.read().decode(errors="replace")[-4000:])
    after = settled_stats(relay) if relay else None
    numbers = [took, usage.ru_utime + usage.ru_stime]
    if relay:
        numbers += [after[name] - before[name] for name in ("turns", "up", "down")]
    return numbers


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--relay", type=pathlib.Path)
    arguments.add_argument("--between")
    arguments.add_argument("file", type=pathlib.Path)
    options = arguments.parse_args()
    contestants = [Contestant(line) for line in options.file.read_text().splitlines()]

    def run(contestant):
        numbers = run_once(contestant, options.relay)
        if options.between:
            subprocess.run(options.between, shell=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return numbers

    for contestant in contestants:
        if contestant.rounds > 2:
            run(contestant)
    for number in range(max(contestant.rounds for contestant in contestants)):
        first = number % len(contestants)
        for contestant in contestants[first:] + contestants[:first]:
            if len(contestant.runs) < contestant.rounds:
                contestant.runs.append(run(contestant))
    for contestant in contestants:
        columns = list(zip(*contestant.runs))
        cells = [f"{statistics.median(columns[0]):.3f}", f"{min(columns[0]):.3f}", f"{statistics.median(columns[1]):.3f}"]
        if options.relay:
            cells += [f"{statistics.median(columns[2]):.0f}"] + [f"{statistics.median(column) / 1000:.1f}" for column in columns[3:]]
        print("\t".join([contestant.name] + cells))


main()
