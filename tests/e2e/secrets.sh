# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # host, status and the like are the frame's; what is quoted is expanded on the host
# Secrets are where a recipe puts them, and nowhere else: on no argv, in no journal, log, event or file of either machine.

secrets_needs() { needs_gpustrap; }

secrets_cases() {
    # Made up here, with what shells, JSON and URLs write differently. Searched for by its core alone, which none of them changes.
    core=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
    mkdir -p "$suite_dir/secret"
    printf "s'%s\"&\$ %%" "$core" >"$suite_dir/secret/value"
    {
        echo "$core"
        base64 -w0 <"$suite_dir/secret/value" | cut -c9-32
        printf %s "$core" | od -An -v -tx1 | tr -d ' \n'
        echo
    } >"$suite_dir/secret/core"
    recipes
    boot_host box

    case_ "a secret that is not there is named before anything is done"
    up "$suite_dir/everywhere.yaml"
    expect_exit 2
    expect_output 'the secret `hub` has no value: the environment variable HUB_TOKEN is not set'
    expect_output 'there is no terminal to ask at'
    expect_output "set HUB_TOKEN in the environment"

    case_ "a plan needs no values, and says what it cannot know without them"
    gpustrap plan "$suite_dir/everywhere.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_output "cannot be known without the secret hub"

    case_ "a run with a secret in every place that a recipe allows puts it there"
    HUB_TOKEN=$(<"$suite_dir/secret/value")
    export HUB_TOKEN
    begin everywhere
    await_that shown "at the gate"
    collect_processes
    open_gate
    end_of_run
    expect_exit 0
    expect_output 'it is ***' # of what the steps printed
    expect_whole_journal
    unset HUB_TOKEN
    for place in text env unless; do expect_secret "/opt/places/$place"; done
    expect_secret_in /opt/places/file /opt/places/block
    on_host stat -c %a /opt/places/file
    expect_equal "$(cat stdout)" 600
    expect_nowhere

    case_ "an observer of either machine saw no process with it on its command line"
    expect_not_in "$suite_dir/processes"

    case_ "a second run finds everything as it should be, and tells as little"
    HUB_TOKEN=$(<"$suite_dir/secret/value") up "$suite_dir/settled.yaml" --json
    expect_exit 0
    HUB_TOKEN=$(<"$suite_dir/secret/value") up "$suite_dir/settled.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_nowhere

    case_ "a person at a terminal is asked, and the answer is not shown"
    at_terminal "Token of the hub" "$core" up "$suite_dir/asked.yaml" --verbose
    expect_exit 0
    expect_not_in output
    expect_output '***'
    expect_nowhere

    case_ "the host restarts under a controller that stays: it hands them again by itself"
    HUB_TOKEN=$(<"$suite_dir/secret/value") begin restarted
    await_that shown "at the gate"
    open_gate
    end_of_run
    expect_exit 0
    expect_secret /opt/places/late
    expect_nowhere

    case_ "with no controller a step waits after the restart, and the host says for what"
    HUB_TOKEN=$(<"$suite_dir/secret/value") begin restarted
    await_that shown "at the gate"
    kill -KILL "$follower"
    end_of_run
    open_gate
    await_run '"event":"waiting_for_secret"'
    await_run '"step":"beside","outcome":"changed"'
    gpustrap status "$host" -i "$key"
    expect_exit 0
    expect_output "waiting for a secret, at late"
    ! on_host test -e /opt/places/late

    case_ "attach without the value says what is missing"
    follow attach "$host" -i "$key"
    await_that told_or_shown "The run waits for the secret hub"
    kill -KILL "$follower"
    end_of_run

    case_ "attach with it hands it over, and the run comes to its end"
    HUB_TOKEN=$(<"$suite_dir/secret/value") follow attach "$host" --json
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_secret /opt/places/late
    expect_nowhere

    case_ "the agent alone takes them from its own environment and files"
    close_gates
    put "$bin/gpustrap-agent" /opt/gpustrap-agent 0755
    put "$suite_dir/alone.json" /opt/alone.json 0644
    ! on_host /opt/gpustrap-agent run /opt/alone.json --login-user ubuntu
    expect_exit 2
    expect_output "the environment variable HUB_TOKEN is not set"
    testbed exec box touch /opt/gate
    alone run
    expect_exit 0
    expect_output '***'
    expect_not_in output
    expect_secret /opt/places/alone
    expect_nowhere

    case_ "and after a restart of its host it waits until it is given them again"
    close_gates
    testbed exec box rm -rf /opt/places/alone /var/lib/gpustrap/runs
    alone run >/dev/null 2>&1 &
    background+=($!)
    await_run "at the gate"
    testbed kill box
    testbed start box
    testbed exec box touch /opt/gate
    await_run '"event":"waiting_for_secret"'
    alone secrets
    expect_exit 0
    await_run '"event":"run_finished"'
    expect_secret /opt/places/alone
    expect_nowhere
}

recipes() {
    cat >"$suite_dir/everywhere.yaml" <<RECIPE
name: everywhere
secrets:
  hub: { env: HUB_TOKEN }
  other: { file: $suite_dir/secret/value, prompt: Token of the hub }
  asked: { env: HUB_TOKEN, prompt: Token of the hub }
steps:
  - id: folder
    as: root
    directory: { path: /opt/places, mode: "0777" }
  - id: text
    command:
      run: |
        printf %s \${{ secrets.hub }} >/opt/places/text
        echo it is \${{ secrets.hub }}
        echo "{\"it\": \"\${{ secrets.hub }}\"}" >&2
        printf %s \${{ secrets.hub }} | base64 -w0; echo
        printf %s \${{ secrets.hub }} | od -An -v -tx1 | tr -d ' \n'; echo
        set -x
        : \${{ secrets.asked }}
        set +x
        logger "a line of this step" || true
        echo "at the gate"
        until test -e /opt/gate; do sleep 0.05; done
  - id: env
    command: { run: 'printf %s "\$TOKEN" >/opt/places/env', creates: /opt/places/env }
    env: { TOKEN: "\${{ secrets.hub }}" }
  - id: argv
    command: [sh, -c, 'echo "\$TOKEN"; env']
    env: { TOKEN: "<\${{ secrets.other }}>" }
  - id: unless
    command: { run: 'printf %s \${{ secrets.other }} >/opt/places/unless', unless: 'test "\$(cat /opt/places/unless)" = \${{ secrets.other }}' }
  - id: file
    as: root
    file: { path: /opt/places/file, content: "a=1\ntoken=\${{ secrets.hub }}\n" }
  - id: block
    as: root
    block: { path: /opt/places/block, marker: places, content: "token=\${{ secrets.hub }}" }
  - id: shown
    as: root
    command: { run: 'cat /opt/places/file /opt/places/block; echo \${{ secrets.hub }} >&2' }
RECIPE
    cat >"$suite_dir/settled.yaml" <<'RECIPE'
name: settled
secrets: { hub: { env: HUB_TOKEN } }
steps:
  - id: file
    as: root
    file: { path: /opt/places/file, content: "a=1\nb=2\ntoken=${{ secrets.hub }}\n" }
  - id: block
    as: root
    block: { path: /opt/places/block, marker: places, content: "token=${{ secrets.hub }}" }
  - id: made
    command: { run: 'echo ${{ secrets.hub }}', unless: 'test -n ${{ secrets.hub }}' }
RECIPE
    cat >"$suite_dir/asked.yaml" <<'RECIPE'
name: asked
secrets: { hub: { prompt: Token of the hub } }
steps:
  - command: 'echo it was ${{ secrets.hub }}'
RECIPE
    cat >"$suite_dir/restarted.yaml" <<'RECIPE'
name: restarted
secrets: { hub: { env: HUB_TOKEN } }
steps:
  - id: early
    as: root
    file: { path: /opt/places/early, content: "token=${{ secrets.hub }}\n" }
  - id: gate
    command: 'echo "at the gate"; until test -e /opt/gate; do sleep 0.05; done'
  - reboot: always
  - id: late
    command: { run: 'printf %s ${{ secrets.hub }} >/opt/places/late', creates: /opt/places/late }
  - id: beside
    needs: [reboot]
    command: 'true'
RECIPE
    cat >"$suite_dir/alone.json" <<'RECIPE'
{"name": "alone", "secrets": {"hub": {"env": "HUB_TOKEN"}}, "steps": [
  {"id": "folder", "directory": {"path": "/opt/places", "mode": "0777"}},
  {"id": "gate", "as": "root", "command": {"run": "echo at the gate; until test -e /opt/gate; do sleep 0.05; done; touch /run/passed", "creates": "/run/passed"}},
  {"id": "alone", "command": {"run": "echo it is ${{ secrets.hub }}; printf %s ${{ secrets.hub }} >/opt/places/alone", "creates": "/opt/places/alone"}}
]}
RECIPE
}

# The agent on the host with the value in its environment, which reaches it by standard input.
alone() {
    run_with_input "$suite_dir/secret/value" testbed exec box sh -c \
        'HUB_TOKEN=$(cat) && export HUB_TOKEN && exec /opt/gpustrap-agent "$0" /opt/alone.json --login-user ubuntu </dev/null' "$1"
}

run_with_input() {
    local input=$1
    shift
    status=0
    "$@" >"$case_dir/stdout" 2>"$case_dir/stderr" <"$input" || status=$?
    cat "$case_dir/stdout" "$case_dir/stderr" >"$case_dir/output"
}

begin() {
    close_gates
    follow up "$suite_dir/$1.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --json
}

# A host that restarts while the machine is busy takes its time: 120 s at most.
await_run() {
    local deadline=$((SECONDS + 120))
    until journal_says "$1"; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "the run did not come to '$1' within 120 s; its journal ends:"$'\n'"$(journal | tail -n 3)"
            return 1
        }
        sleep 0.1
    done
}

journal_says() { journal 2>/dev/null | grep -q -F -- "$1"; }
told_or_shown() { told "$1" || shown "$1"; }
open_gate() { testbed exec box touch /opt/gate; }
close_gates() { testbed exec box rm -rf /opt/gate /opt/places/late /run/passed; }

# Copies a file onto the host.
put() { testbed exec "$host_name" sh -c "cat >$2 && chmod $3 $2" <"$1"; }

root() { echo "$GPUSTRAP_TESTBED_DIR/hosts/box/root"; }

# From outside, since a step may just be taking the host down.
journal() {
    cat "$(find "$(root)/var/lib/gpustrap/runs" -name events.jsonl -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)"
}

collect_processes() {
    # The host's processes are this machine's, too; theirs are listed from inside as well.
    {
        ps axww -o pid,args
        testbed exec box ps axww -o pid,args
    } >"$suite_dir/processes"
    grep -q 'GPUSTRAP_SECRET_hub' "$suite_dir/processes" || fail_case "the step was not seen at its gate"
}

expect_secret() { cmp -s "$(root)$1" "$suite_dir/secret/value" || fail_case "$1 does not hold the secret"; }

expect_secret_in() {
    local file
    for file in "$@"; do grep -q -F -f <(head -n 1 "$suite_dir/secret/core") "$(root)$file" || fail_case "$file does not hold the secret"; done
}

expect_not_in() {
    ! grep -q -a -F -f "$suite_dir/secret/core" "$1" || fail_case "it is in $1: $(grep -a -m 1 -F -f "$suite_dir/secret/core" "$1" | cut -c1-200)"
}

# On the host it is in the files that the recipe wrote it into; of them and of what stood there before, backups.
expect_nowhere() {
    local found
    found=$(grep -r -a -l -F -f "$suite_dir/secret/core" --exclude-dir=proc --exclude-dir=sys "$(root)" 2>/dev/null |
        grep -v -E '/opt/places/(text|env|unless|file|block|early|late|alone|(file|block|early)\.gpustrap-backup[.0-9]*)$' || true)
    [ -z "$found" ] || fail_case "on the host it is in:"$'\n'"$found"
    testbed exec box sh -c 'tar -c -f - --ignore-failed-read -C / run tmp var/tmp dev/shm 2>/dev/null; journalctl --no-pager --all 2>/dev/null; dmesg 2>/dev/null; true' >host_memory
    [ "$(wc -c <host_memory)" -gt 10000 ] || fail_case "the host's memory file systems could not be read"
    expect_not_in host_memory
    found=$(grep -r -a -l -F -f "$suite_dir/secret/core" "$suite_dir/home" "$suite_dir/follower" "$case_dir" 2>/dev/null || true)
    [ -z "$found" ] || fail_case "here it is in:"$'\n'"$found"
}
