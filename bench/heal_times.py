#!/usr/bin/env python3
"""Measures how long the view of a run stands still when its link or its host goes away.

    heal_times.py GPUSTRAP TESTBED RELAY ADDRESS USER KEY SCRATCH

GPUSTRAP, TESTBED and RELAY are the programs; the host of the testbed is called "bench". Prints "NAME SECONDS" lines: medians, and the
worst of what has a promise. The run writes ten lines a second, so a tenth of a second is the grain of what is measured.
"""
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time

GPUSTRAP, TESTBED, RELAY, ADDRESS, USER, KEY, SCRATCH = sys.argv[1:]
CUTS, OUTAGES, SILENCES, RESTARTS = 7, 3, 3, 3
LIMIT = 120

scratch = pathlib.Path(SCRATCH)
shown, told = scratch / "shown", scratch / "told"


def size(path):
    return path.stat().st_size if path.exists() else 0


def until(condition, what):
    """Seconds until the condition holds."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > LIMIT:
            sys.exit(f"heal_times: {what} did not come within {LIMIT} s; gpustrap says: {told.read_text()[-300:]}")
        time.sleep(0.005)
    return time.monotonic() - begin


def until_more(path, what):
    before = size(path)
    return until(lambda: size(path) > before, what)


def relay(*words):
    subprocess.run([RELAY, "--state", str(scratch / "relay"), *words], check=True)


def on_host(*words):
    return subprocess.run([TESTBED, "exec", "bench", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def serves():
    return set(on_host("pgrep", "-f", "agent-[0-9a-f]* serve").split())


def sshd_answers():
    try:
        with socket.create_connection((ADDRESS, 22), timeout=0.5) as link:
            link.settimeout(0.5)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def follow(place):
    """A run of steps that write until they are let go, one after the other."""
    recipe = scratch / "heal.yaml"
    text = "name: heal\nsteps:\n"
    for number in range(RESTARTS + 2):
        done = f"/var/lib/heal/{number}"
        loop = f"mkdir -p /var/lib/heal; until test -e {done}.go; do echo line; sleep 0.1; done; touch {done}"
        text += f'  - {{ id: s{number}, as: root, command: {{ run: "{loop}", creates: {done} }} }}\n'
    recipe.write_text(text)
    command = [GPUSTRAP, "up", str(recipe), *place, "-i", KEY, "--accept-new-host-key", "-y", "--no-tunnel", "--json"]
    on_host("rm", "-rf", "/var/lib/heal")
    with open(shown, "wb") as out, open(told, "wb") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    until(lambda: b'"step_output"' in shown.read_bytes(), "the first line of the run")
    return process


def let_go(first, last):
    for number in range(first, last):
        on_host("touch", f"/var/lib/heal/{number}.go")


def say(name, seconds):
    print(name, f"{seconds:.2f}", flush=True)


def measure_links():
    where, port = (scratch / "relay" / "address").read_text().strip().rsplit(":", 1)
    run = follow([f"{USER}@{where}", "-p", port])

    healed = []
    for _ in range(CUTS):
        relay("cut")
        healed.append(until_more(shown, "a line behind a cut"))
        until_more(shown, "a line")
    say("cut", statistics.median(healed))

    healed = []
    for _ in range(OUTAGES):
        relay("refuse")
        until(lambda: b"connection lost" in told.read_bytes(), "the loss")
        time.sleep(10)  # the outage
        relay("go")
        healed.append(until_more(shown, "a line behind an outage"))
    say("outage", statistics.median(healed))

    here, there, healed = [], [], []
    for _ in range(SILENCES):
        before, losses = serves(), told.read_bytes().count(b"connection lost")
        relay("stall")
        begin = time.monotonic()
        noticed = {}
        while len(noticed) < 2:
            if time.monotonic() - begin > LIMIT:
                sys.exit("heal_times: a silent link was not noticed on both sides")
            if "here" not in noticed and told.read_bytes().count(b"connection lost") > losses:
                noticed["here"] = time.monotonic() - begin
            if "there" not in noticed and not before & serves():
                noticed["there"] = time.monotonic() - begin
            time.sleep(0.05)
        relay("go")
        healed.append(until_more(shown, "a line behind a silence"))
        here.append(noticed["here"])
        there.append(noticed["there"])
    say("silence_here", max(here))
    say("silence_there", max(there))
    say("silence", statistics.median(healed))
    let_go(0, RESTARTS + 2)
    run.wait(LIMIT)


def measure_restarts():
    run = follow([f"{USER}@{ADDRESS}"])
    healed = []
    for number in range(RESTARTS):
        on_host("systemctl", "reboot")
        until(lambda: not sshd_answers(), "the host's going down")
        before = size(shown)
        until(sshd_answers, "sshd")
        begin = time.monotonic()
        until(lambda: shown.read_bytes().count(b'"runner_started"') > number + 1, "the next runner's first word")
        healed.append(time.monotonic() - begin)
        until(lambda: size(shown) > before, "a line behind a restart")
        let_go(number, number + 1)  # the run gets further, or it would be given up
    say("restart", statistics.median(healed))
    let_go(0, RESTARTS + 2)
    run.wait(LIMIT)


measure_links()
measure_restarts()
