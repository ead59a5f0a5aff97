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

    case_ "what an author asks: explained recipes and kinds, adopted scripts, packed recipes, a first recipe"
    gpustrap recipe explain d2l --gpu t4 --os ubuntu:24.04 --json
    expect_exit 0
    documented 'recipe explain' 'fields when'
    gpustrap recipe explain check-gpu --gpu none --json
    expect_exit 1
    documented 'recipe explain' 'fields when'
    gpustrap recipe explain jupyter --kind --json
    documented 'recipe explain' default
    printf 'sudo apt-get update\nsudo apt-get install -y git\nmake\n' >"$suite_dir/setup.sh"
    gpustrap adopt "$suite_dir/setup.sh" --json
    expect_exit 0
    documented adopt
    gpustrap adopt "$suite_dir/setup.sh" -o adopted.yaml --json
    documented adopt
    expect_equal "$(printed '["recipe"]')" "$(<adopted.yaml)"
    gpustrap pack "$suite_dir/lab.yaml" -o lab.sh --user-data https://example.org/lab.sh --json
    expect_exit 0
    documented pack
    expect_equal "$(printed '["sha256"]') $(printed '["size"]')" "$(sha256sum <lab.sh | cut -c 1-64) $(stat -c %s lab.sh)"
    gpustrap recipe new new.yaml --json
    expect_equal "$(printed '["file"]')" new.yaml
    documented 'recipe new'
    gpustrap doctor --list --json
    documented doctor

    case_ "an error says on stderr what it says without --json, and prints nothing"
    gpustrap recipe explain nothing --json
    expect_exit 2
    expect_output "neither a recipe nor a kind"
    [ ! -s stdout ] || fail_case "something was printed"
    gpustrap adopt nowhere.sh --json
    expect_exit 2
    [ ! -s stdout ] || fail_case "something was printed"

    case_ "a setting does not make a document of what is printed for a file"
    GPUSTRAP_JSON=1 gpustrap adopt "$suite_dir/setup.sh"
    expect_output 'name: "setup"'
    GPUSTRAP_JSON=1 gpustrap recipe explain apt
    documented 'recipe explain' default

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
