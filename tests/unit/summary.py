#!/usr/bin/env python3
"""summary.py JUNIT-FILE ERRORS-FILE: what ctest's report says, in the form of every part of `./dev test`.

A "skipped:" list with the reason of each, where there are any, and "N passed, N failed, N skipped" as the last line. A test that
was skipped without a reason counts as failed: nobody would notice that it has stopped checking anything. What tests/provoked_errors.cc
says is shown, and each error that no test provokes counts as failed, too.
"""
import re
import sys
import xml.etree.ElementTree as xml

passed = 0
failed = []
skipped = []
for case in xml.parse(sys.argv[1]).getroot().iter("testcase"):
    name, status = case.get("name"), case.get("status")
    if status == "run":
        passed += 1
    elif status == "fail":
        failed.append(f"FAIL  {name}")
    else:
        # GoogleTest: "<file>:<line>: Skipped", then what the test said, then its own bookkeeping.
        said = re.search(r": Skipped\n+((?!\[).+)", case.findtext("system-out") or "")
        if said:
            skipped.append(f"  {name}: {said.group(1).strip()}")
        else:
            failed.append(f"FAIL  {name}: skipped without a reason")

with open(sys.argv[2], encoding="utf-8") as errors:
    said = errors.read().splitlines()
provoked = said.pop() if said and re.fullmatch(r"\d+ errors: .*", said[-1]) else "FAIL  provoked_errors gave no count"
failed += [line for line in [*said, provoked] if line.startswith("FAIL")]

print(*[line for line in said if line.startswith("note")], provoked, sep="\n")
print(*failed, *(["skipped:"] if skipped else []), *skipped, sep="\n")
print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or passed == 0 else 0)
