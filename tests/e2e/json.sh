# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # host, address and key are the frame's
# docs/json.md and what `--json` really prints: every member that comes is named there, in the section of its verb.

json_needs() { needs_gpustrap; }

json_cases() {
    cat >"$suite_dir/lab.yaml" <<'RECIPE'
name: lab
steps:
  - file: { path: ~/motd, content: "hi\n" }
  - id: keeps
    as: root
    service: { name: lab-keeps, unit: "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n" }
RECIPE
    boot_host box

    case_ "up and its like: events alone, as PROTOCOL.md has them"
    up "$suite_dir/lab.yaml" --json
    expect_exit 0
    each_line_has event
    gpustrap plan "$suite_dir/lab.yaml" "$host" --json
    each_line_has event
    gpustrap attach "$host" --json
    each_line_has event
    gpustrap logs "$host" file --json
    each_line_has event

    case_ "status, of a host that answers and of one that does not"
    gpustrap status "$host" --json
    expect_exit 0
    documented status 'facts run'
    gpustrap status "$user@${address%.*}.250" -i "$key" --json
    expect_exit 4
    documented status

    case_ "pull and push, also where they end in an error"
    gpustrap pull "$host" motd got --json
    expect_exit 0
    documented 'pull`, `push'
    gpustrap push "$host" got there --json
    documented 'pull`, `push'
    gpustrap pull "$host" nowhere got --json
    expect_exit 1
    documented 'pull`, `push'
    gpustrap pull "$host" motd other --dry-run --json
    documented 'pull`, `push'

    case_ "cancel, where nothing runs"
    gpustrap cancel "$host" --json
    documented cancel

    case_ "what is remembered here: hosts, history, and what this program is"
    gpustrap hosts --json
    documented hosts
    gpustrap history --json
    documented history finished
    gpustrap recipe list --json
    documented 'recipe list'
    gpustrap version --json
    documented version

    case_ "lint says the same by --json and by --format json"
    gpustrap recipe lint "$suite_dir/lab.yaml" --json
    cp stdout by-json
    gpustrap recipe lint "$suite_dir/lab.yaml" --format json
    cmp -s stdout by-json || fail_case "they differ"

    case_ "remove"
    gpustrap remove "$host" -y --json
    expect_exit 0
    documented remove
}

each_line_has() {
    python3 - stdout "$1" <<'LINES' || fail_case "what came is no such line"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(0 if lines and all(sys.argv[2] in line for line in lines) else 1)
LINES
}

# `documented HEADING [MEMBERS-OF-OTHERS]`: each member of what was printed stands in that section, but for those below members that another
# document describes; the first one says which version it is.
documented() {
    local missing
    missing=$(python3 - stdout "$repository/docs/json.md" "$1" "${2:-}" <<'MEMBERS'
import json, re, sys
printed, reference, heading, others = sys.argv[1:]
text = open(reference).read()
section = next(part for part in re.split(r"^## ", text, flags=re.M) if part.startswith(f"`{heading}`"))
known = set(re.findall(r"`([a-z_0-9]+)`", section)) | set(re.findall(r'"([a-z_0-9]+)":', section)) | {"code", "message", "hint", "error"}


def walk(value):
    if isinstance(value, list):
        for one in value:
            yield from walk(one)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name not in others.split():
                yield from walk(inner)


lines = [json.loads(line) for line in open(printed) if line.strip()]
if not lines:
    print("nothing was printed")
for line in lines:
    if next(iter(line.values())) != 1:
        print("the first member is no version")
    print(*sorted(set(walk(line)) - known))
MEMBERS
    )
    missing=$(tr -d '\n ' <<<"$missing")
    [ -z "$missing" ] || fail_case "docs/json.md, $1, does not name: $missing"
}
