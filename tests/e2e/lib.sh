# shellcheck shell=bash disable=SC2034 # password, origin and the like are for suites
# The words that end-to-end suites are written in. `run` starts one shell per suite, which sources
# this file and the suite, and calls `suite NAME`.
#
# A suite NAME.sh defines NAME_cases, and NAME_needs where something may be missing: it prints why the
# suite cannot run, or nothing. A case begins with `case_ "…"` and lasts until the next one. A command
# that fails outside an expectation fails the case too.

e2e_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$e2e_dir/../.." && pwd)

bin=${GPUSTRAP_BIN:-$repository/build/release}
case_name=''
case_failure=''
case_skip=''
runner=(run_recorded) # how `gpustrap` is run
background=() # what `serve` and `start_relay` left running
status=0 # of the last command that `gpustrap` or `on_host` ran

have() { command -v "$1" >/dev/null; }

# What a suite of the product needs.
needs_gpustrap() {
    [ -x "$bin/gpustrap" ] || echo "$bin/gpustrap is not built"
}

suite() {
    suite_name=$1 suite_dir=$2 results=$3
    local reason=''
    if declare -F "${suite_name}_needs" >/dev/null; then reason=$("${suite_name}_needs"); fi
    if [ -n "$reason" ]; then
        record skip "(all)" "$reason"
        return
    fi
    mkdir -p "$suite_dir/cases" "$suite_dir/home" "$suite_dir/path"
    private_home
    trap suite_over EXIT
    trap 'exit 141' PIPE # a program that a case writes to has ended: the suite, too, but not without tidying up
    set -E
    trap 'unexpected $? "$BASH_COMMAND" "${BASH_LINENO[0]}"' ERR
    "${suite_name}_cases"
    trap - ERR
    finish_case
    case_name=''
    suite_finished=1
}

suite_over() {
    [ -n "${suite_finished:-}" ] || {
        case_failure="the suite ended early"
        finish_case
    }
    [ ${#background[@]} -eq 0 ] || kill "${background[@]}" 2>/dev/null
    testbed down || record fail "the testbed goes away" "'testbed down' failed"
}

# The product must neither read nor write the settings of whoever runs the tests. ssh looks up the
# home in the password file, not in $HOME, so its configuration is given by a wrapper.
private_home() {
    outer_home=$HOME outer_cache=${XDG_CACHE_HOME:-$HOME/.cache}
    GPUSTRAP_TESTBED_DIR=$(mktemp -d /var/tmp/gpustrap-e2e.XXXXXX)
    export GPUSTRAP_TESTBED_DIR
    unset SSH_AUTH_SOCK XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME
    export HOME=$suite_dir/home XDG_CACHE_HOME=$suite_dir/home/.cache
    known_hosts=$suite_dir/home/known_hosts
    cat >"$suite_dir/home/ssh_config" <<SSH
Host *
    UserKnownHostsFile $known_hosts
    GlobalKnownHostsFile /dev/null
    IdentityAgent none
SSH
    cat >"$suite_dir/path/ssh" <<SSH
#!/bin/sh
exec $(command -v ssh) -F '$suite_dir/home/ssh_config' "\$@"
SSH
    chmod +x "$suite_dir/path/ssh"
    export PATH=$suite_dir/path:$PATH
}

record() { printf '%s\t%s\t%s\t%s\n' "$1" "$suite_name" "$2" "${3:-}" >>"$results"; }

case_() {
    finish_case
    case_name=$1 case_failure='' case_skip='' case_started=${EPOCHREALTIME/./}
    case_dir=$(mktemp -d "$suite_dir/cases/XXXXXX")
    cd "$case_dir" || exit
}

finish_case() {
    [ -n "$case_name" ] || return 0
    local took=$(((${EPOCHREALTIME/./} - case_started) / 1000))
    cd "$suite_dir" || exit
    if [ -n "$case_failure" ]; then
        echo "FAIL  $suite_name: $case_name ($took ms)"
        echo "      $case_failure" | sed '2,$s/^/      | /'
        echo "      kept: $case_dir"
        record fail "$case_name" "${case_failure%%$'\n'*}"
    elif [ -n "$case_skip" ]; then
        echo "skip  $suite_name: $case_name: $case_skip"
        record skip "$case_name" "$case_skip"
    else
        echo "ok    $suite_name: $case_name ($took ms)"
        record pass "$case_name"
        rm -rf "$case_dir"
    fi
}

# The first failure of a case is its reason; what follows is mostly its consequence.
fail_case() {
    [ -n "$case_failure" ] || case_failure="line ${BASH_LINENO[1]}: $1"
}

# Leaves the case with a reason; the caller returns or goes on to the next case.
skip_case() { case_skip=${1:?a skip needs a reason}; }

unexpected() {
    [ -n "$case_failure" ] || case_failure="line $3: '$2' ended with status $1"
}

# --- hosts ---

testbed() {
    HOME=$outer_home XDG_CACHE_HOME=$outer_cache "$repository/tests/testbed/testbed" "$@"
}

# Boots a host and makes it the one that `up`, `on_host` and the rest speak to: $host is user@address,
# $key its key, $password the login's password where it has one. Options as for `testbed boot`.
boot_host() {
    testbed boot "$@" >"$suite_dir/$1.host" && use_host "$1"
}

use_host() {
    local name value
    host_name=$1 password=''
    while IFS='=' read -r name value; do
        case $name in
        address) address=$value ;;
        user) user=$value ;;
        key) key=$value ;;
        password) password=$value ;;
        esac
    done <"$suite_dir/$1.host"
    host=$user@$address
}

# Runs a command as root on the host; its output is what `expect_output` looks at, and its status its own: where it is to fail, or may,
# the case says so: `! on_host …`, and `expect_exit` behind it.
on_host() {
    run_recorded testbed exec "$host_name" "$@"
    return "$status"
}

as_login() { on_host runuser --user "$user" -- "$@"; }

# Holds the lock that apt and dpkg share, for so many seconds. A bare host has Perl alone.
package_manager_at_work() {
    # shellcheck disable=SC2016 # perl's own
    on_host systemd-run --collect --quiet perl -MFcntl -e '
        open(F, ">>", "/var/lib/dpkg/lock-frontend") or die;
        my $lock = pack("ssx4qqix4", F_WRLCK, 0, 0, 0, 0);
        fcntl(F, F_SETLK, $lock) or die;
        sleep shift;' "$1"
    expect_exit 0
}

# A file system of that size, the user's, over a folder: `full_disk FOLDER SIZE`.
full_disk() {
    on_host install -d -o ubuntu -g ubuntu "$1"
    on_host mount -t tmpfs -o "size=$2,mode=0755,uid=$(testbed exec "$host_name" id -u ubuntu)" full "$1"
}

# --- the internet, and the way to a host ---

# Serves a directory to the current host: $origin and $origin_http are its base URLs. See origin.py
# for the faults that a URL can ask for. `trust_origin` makes the current host accept its certificate.
serve() {
    local state=$suite_dir/origin
    mkdir -p "$state"
    rm -f "$state/http" "$state/https"
    # By address: the host's gateway is this machine.
    "$repository/tests/testbed/origin.py" --root "$1" --state "$state" --bind "${address%.*}.1" \
        >"$state/log" 2>&1 </dev/null &
    background+=($!)
    await "$state/https" && await "$state/http"
    origin=$(<"$state/https") origin_http=$(<"$state/http")
}

trust_origin() { testbed trust "$host_name" "$suite_dir/origin/ca.pem"; }

# The requests the origin has answered, one a line.
origin_requests() { cat "$suite_dir/origin/requests"; }

# Puts a relay before the current host's sshd: $relay_address and $relay_port lead through it.
# `relay latency 100`, `relay cut` and so on command it.
start_relay() {
    rm -f "$suite_dir/relay/address"
    "$repository/tests/testbed/relay.py" --to "$address:22" --state "$suite_dir/relay" >/dev/null 2>&1 </dev/null &
    background+=($!)
    await "$suite_dir/relay/address"
    relay_address=$(cut -d: -f1 "$suite_dir/relay/address") relay_port=$(cut -d: -f2 "$suite_dir/relay/address")
}

relay() { "$repository/tests/testbed/relay.py" --state "$suite_dir/relay" "$@"; }

# Wait until a file is there, or a command succeeds: 20 s at most.
await() {
    local deadline=$((SECONDS + 20))
    until [ -e "$1" ]; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "$1 did not appear within 20 s"
            return 1
        }
        sleep 0.05
    done
}

await_that() {
    local deadline=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "'$*' did not succeed within 20 s"
            return 1
        }
        sleep 0.1
    done
}

# --- the product ---

# Runs gpustrap, keeping stdout, stderr and the exit status for the expectations that follow.
gpustrap() { "${runner[@]}" "$bin/gpustrap" "$@"; }

# `up RECIPE [OPTION…]` on the current host: to its end, without asking, without holding a tunnel.
up() {
    local recipe=$1
    shift
    gpustrap up "$recipe" "$host" -i "$key" --accept-new-host-key -y --no-tunnel "$@"
}

# A person at a terminal: at_terminal PROMPT ANSWER up … types the answer once the prompt is there.
at_terminal() {
    local -a runner=(run_at_terminal "$1" "$2")
    shift 2
    "$@"
}

run_at_terminal() {
    local prompt=$1 answer=$2 pid
    shift 2
    rm -f "$case_dir/keyboard" "$case_dir/stdout"
    mkfifo "$case_dir/keyboard"
    script -q -e -f -c "$(printf '%q ' "$@")" "$case_dir/stdout" >/dev/null 2>&1 <"$case_dir/keyboard" &
    pid=$!
    exec 7>"$case_dir/keyboard"
    # Typed too early, an answer is thrown away when the prompt turns the echo off.
    ! await_that grep -q -F -- "$prompt" "$case_dir/stdout" || printf '%s\n' "$answer" >&7
    status=0
    wait "$pid" || status=$?
    exec 7>&-
    cp "$case_dir/stdout" "$case_dir/output"
}

run_recorded() {
    status=0
    "$@" >"$case_dir/stdout" 2>"$case_dir/stderr" </dev/null || status=$?
    cat "$case_dir/stdout" "$case_dir/stderr" >"$case_dir/output"
}

# The events of the last run that was started with --json, one a line, optionally only of one type.
json_events() {
    local type=${1:-}
    if [ -n "$type" ]; then
        grep -E "\"(event|type)\": *\"$type\"" "$case_dir/stdout" || true
    else
        grep '^{' "$case_dir/stdout" || true
    fi
}

# Not even /dev/tty is there.
off_a_terminal() {
    local -a runner=(run_recorded setsid -w)
    "$@"
}

# --- following a run in the background ---

# Starts gpustrap in the background: $follower is its process, `shown` and `told` look at what it has printed.
follow() {
    following=$suite_dir/follower
    mkdir -p "$following"
    rm -f "$following"/* # else the words of the last one could be taken for this one's
    "$bin/gpustrap" "$@" >"$following/shown" 2>"$following/told" </dev/null &
    follower=$!
}

# The same with `up RECIPE`, through the relay, to $there.
follow_up() {
    there=$user@$relay_address
    follow up "$1" "$there" -p "$relay_port" -i "$key" --accept-new-host-key -y --no-tunnel "${@:2}"
}

attach() { follow attach "$there" "$@"; }

# Waits for what `follow` started, and keeps its exit status and output for the expectations.
end_of_run() {
    status=0
    wait "$follower" 2>/dev/null || status=$?
    cat "$following/shown" "$following/told" >"$case_dir/output"
}

shown() { grep -q -s -F -- "$1" "$following/shown"; }
told() { grep -q -s -F -- "$1" "$following/told"; }

journal() {
    # shellcheck disable=SC2016 # expanded on the host
    testbed exec "$host_name" sh -c 'cat /var/lib/gpustrap/runs/$(ls -t /var/lib/gpustrap/runs | head -n 1)/events.jsonl'
}

journal_says() { journal | grep -q -F -- "$1"; }

# What --json has printed is the newest run's journal: nothing lost, nothing twice, nothing else.
expect_whole_journal() {
    local difference count
    journal >"$case_dir/journal.jsonl"
    count=$(wc -l <"$case_dir/journal.jsonl")
    [ "$count" -gt 8 ] || fail_case "the journal has only $count lines"
    difference=$(diff "$following/shown" "$case_dir/journal.jsonl" | head -n 5 || true)
    [ -z "$difference" ] || fail_case "shown (<) and journal (>) differ:"$'\n'"$difference"
}

# By the process's own id: the host is a container on this machine.
kill_runner() {
    testbed exec "$host_name" kill -KILL "$(journal | grep '"event":"runner_started"' | tail -n 1 | grep -o '"pid":[0-9]*' | cut -d: -f2)"
}

kill_serve() {
    # shellcheck disable=SC2016 # expanded on the host
    testbed exec "$host_name" sh -c 'for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in */agent-*) tr "\0" " " <$p/cmdline | grep -q "agent-[0-9a-f]* serve" && kill -KILL ${p#/proc/} ;; esac
    done; true'
}

# --- expectations ---

last_output() { tail -n 15 "$case_dir/output"; }

expect_exit() {
    [ "$status" -eq "$1" ] || fail_case "exit status $status, expected $1; the output ends:"$'\n'"$(last_output)"
}

expect_output() {
    grep -qF -- "$1" "$case_dir/output" || fail_case "no '$1' in the output, which ends:"$'\n'"$(last_output)"
}

expect_no_output() {
    ! grep -qF -- "$1" "$case_dir/output" || fail_case "'$1' is in the output: $(grep -m 1 -F -- "$1" "$case_dir/output")"
}

# Every step of the last --json run was unchanged, and there was at least one.
expect_unchanged() {
    local finished other
    finished=$(json_events step_finished)
    other=$(grep -v -E '"outcome": *"unchanged"' <<<"$finished" || true)
    [ -n "$finished" ] || fail_case "no step finished; the output ends:"$'\n'"$(last_output)"
    [ -z "$other" ] || fail_case "steps that were not unchanged:"$'\n'"$other"
}

expect_equal() {
    [ "$1" = "$2" ] || fail_case "'$1', expected '$2'"
}

expect_different() {
    [ "$1" != "$2" ] || fail_case "'$1' both times"
}

# Keeps a full listing of the host; expect_same_listing compares with it. gpustrap's own journal of
# runs is left out: a run that changes nothing still keeps a record of itself.
take_listing() { testbed listing "$host_name" --except var/lib/gpustrap "$@" >"$case_dir/listing"; }

expect_same_listing() {
    testbed listing "$host_name" --except var/lib/gpustrap "$@" >"$case_dir/listing.after"
    local difference
    difference=$(diff "$case_dir/listing" "$case_dir/listing.after" | head -n 20 || true)
    [ -z "$difference" ] || fail_case "the host was touched:"$'\n'"$difference"
}

# A member of the document that was printed: `printed '["name"]'`.
printed() { python3 -c "import json, sys; print(str(json.load(sys.stdin)$1).rstrip())" <stdout; }

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


rest, documents = open(printed).read().strip(), []
while rest:
    document, end = json.JSONDecoder().raw_decode(rest)
    documents.append(document)
    rest = rest[end:].strip()
if not documents:
    print("nothing was printed")
for document in documents:
    if next(iter(document.values())) != 1:
        print("the first member is no version")
    print(*sorted(set(walk(document)) - known))
MEMBERS
    )
    missing=$(tr -d '\n ' <<<"$missing")
    [ -z "$missing" ] || fail_case "docs/json.md, $1, does not name: $missing"
}
