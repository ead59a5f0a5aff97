# shellcheck shell=bash disable=SC2034,SC2154 # host, status and the like are the frame's
# A run survives restarts of its host: asked for, unasked for, with a controller and without one.

reboots_needs() { needs_gpustrap; }

reboots_cases() {
    recipes
    boot_host box

    case_ "a restart is not begun where nobody can be asked whether it may"
    off_a_terminal gpustrap up "$suite_dir/middle.yaml" "$host" -i "$key" --accept-new-host-key --no-tunnel
    expect_exit 2
    expect_output "this run would restart the host"
    expect_output "add -y"
    expect_equal "$(journal_file)" ""

    case_ "at a terminal somebody is shown what would change, and asked"
    at_terminal "Go on?" n gpustrap up "$suite_dir/middle.yaml" "$host" -i "$key" --no-tunnel
    expect_exit 130
    expect_output "This run would restart the host"
    expect_output "early"
    expect_output "Nothing was changed"
    expect_equal "$(journal_file)" ""

    case_ "a restart in the middle of a run is a step like any other, and the view goes on by itself"
    begin "$suite_dir/middle.yaml" --json
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(shown_events rebooting | wc -l)" 1
    expect_different "$(boots | head -n 1)" "$(boots | tail -n 1)"
    expect_equal "$(outcomes early)" "changed unchanged"
    expect_equal "$(outcomes once)" "changed unchanged"
    expect_equal "$(outcomes late)" changed
    expect_equal "$(shown_events run_finished | grep -o '"changed":[0-9]*')" '"changed":3'
    on_host cat /var/lib/e2e/once
    expect_equal "$(cat stdout)" once # what cannot be seen to be done is not done again

    case_ "nothing is left that would start at the next boot"
    expect_no_unit

    case_ "a person sees that the host restarts, and how long it took"
    begin "$suite_dir/middle.yaml" --verbose
    end_of_run
    expect_exit 0
    expect_output "rebooting"
    expect_output "back after"
    expect_no_output "connection lost"

    case_ "without a controller the run goes on as well, and attach shows every event once"
    close_gates
    gpustrap up "$suite_dir/middle.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --detach
    expect_exit 9
    await_that journal_says '"event":"run_finished"'
    follow attach "$host" --json
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(shown_events rebooting | wc -l)" 1
    expect_no_unit

    case_ "with the controller killed before the restart, the same"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "before the gate"
    kill -KILL "$follower"
    end_of_run
    open_gate
    await_that journal_says '"event":"run_finished"'
    follow attach "$host" --json
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(shown_events rebooting | wc -l)" 1

    case_ "a run that changes nothing does not pay for a restart that will not come"
    gpustrap up "$suite_dir/plain.yaml" "$host" -i "$key" -y --no-tunnel
    expect_exit 0
    take_listing
    on_host touch -d @1 /etc/systemd/system/multi-user.target.wants
    gpustrap up "$suite_dir/plain.yaml" "$host" -i "$key" -y --no-tunnel --json
    expect_exit 0
    expect_unchanged
    on_host stat -c %Y /etc/systemd/system/multi-user.target.wants
    expect_equal "$(cat stdout)" 1

    case_ "power lost in the middle of a step: the step is interrupted, looked at afresh, and the run goes on"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "before the gate"
    on_host grep -E -x 'ExecStart=/usr/local/lib/gpustrap/agent-[0-9a-f]{64} resume' /etc/systemd/system/gpustrap-resume.service
    expect_exit 0
    testbed kill box
    testbed start box
    open_gate
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_output '"interrupted":["gated"]'
    expect_equal "$(outcomes gated)" "changed unchanged" # the restart that the run itself asks for comes after it
    expect_no_unit

    case_ "power lost with no controller: systemd takes the run up at boot"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "before the gate"
    kill -KILL "$follower"
    end_of_run
    testbed kill box
    testbed start box
    open_gate
    await_that journal_says '"event":"run_finished"'
    follow attach "$host" --json
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_output '"interrupted":["gated"]'

    case_ "events that a power loss took away are given up, and the stream goes on behind the last true one"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "before the gate"
    testbed kill box
    lose_last_events 2
    testbed start box
    open_gate
    end_of_run
    expect_exit 0
    expect_equal "$(grep -c '^{"rewound"' "$following/shown")" 1
    # What follows is the journal from there on.
    sed '1,/^{"rewound"/d' "$following/shown" >behind
    journal | tail -n "$(wc -l <behind)" >true_end
    expect_equal "$(diff behind true_end | head -n 3)" ''

    case_ "a restart that would end another user's work is not begun, and names them; it may be allowed"
    testbed exec box sh -c 'useradd --create-home ann && cp -r /home/ubuntu/.ssh /home/ann/ && chown -R ann: /home/ann/.ssh'
    ssh -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=accept-new "ann@$address" 'echo here; sleep 600' >ann 2>/dev/null </dev/null &
    local ann=$!
    background+=("$ann")
    await_that grep -q here ann
    begin "$suite_dir/middle.yaml" --json
    end_of_run
    expect_exit 1
    expect_output "ann is logged in, and a restart would end that"
    expect_output "allow-disruption"
    expect_equal "$(shown_events rebooting | wc -l)" 0
    expect_no_unit
    kill -0 "$ann"
    follow up "$suite_dir/middle.yaml" "$host" -i "$key" -y --no-tunnel --json --allow-disruption
    end_of_run
    expect_exit 0
    expect_equal "$(shown_events rebooting | wc -l)" 1
    wait "$ann" || true
    expect_no_unit

    case_ "a restart that nothing would take up is not begun"
    on_host mount --bind /etc/systemd/system /etc/systemd/system
    on_host mount -o remount,bind,ro /etc/systemd/system
    begin "$suite_dir/middle.yaml" --json
    end_of_run
    on_host umount /etc/systemd/system
    expect_equal "$(shown_events run_finished | grep -o '"end":"[a-z]*"')" '"end":"failed"'
    expect_equal "$(shown_events step_finished | grep -c 'gpustrap-resume.service could not be set up, so the run would not go on by itself')" 1

    case_ "a run asks for three restarts at most"
    begin "$suite_dir/restless.yaml" --json
    end_of_run
    expect_exit 1
    expect_whole_journal
    expect_equal "$(shown_events rebooting | wc -l)" 3
    expect_output "restarted the host 3 times already"
    expect_no_unit

    case_ "a step that takes the host down again and again is given up"
    begin "$suite_dir/deadly.yaml" --json
    end_of_run
    expect_exit 1
    expect_whole_journal
    expect_output "went down 4 times in a row"
    expect_no_unit

    case_ "remove takes the unit along"
    on_host sh -c 'echo "[Service]" >/etc/systemd/system/gpustrap-resume.service'
    gpustrap remove "$host" -i "$key" -y
    expect_exit 0
    expect_output gpustrap-resume.service
    expect_no_unit
}

recipes() {
    cat >"$suite_dir/middle.yaml" <<'RECIPE'
name: middle
steps:
  - id: early
    as: root
    command: { run: mkdir -p /var/lib/e2e && touch /var/lib/e2e/early, creates: /var/lib/e2e/early }
  - id: once
    as: root
    command: { run: echo once >>/var/lib/e2e/once }
  - reboot: always
  - id: late
    as: root
    command: { run: touch /var/lib/e2e/late, creates: /var/lib/e2e/late }
RECIPE
    cat >"$suite_dir/gated.yaml" <<'RECIPE'
name: gated
steps:
  - id: early
    as: root
    command: { run: mkdir -p /var/lib/e2e && touch /var/lib/e2e/early, creates: /var/lib/e2e/early }
  - id: gated
    as: root
    command:
      run: |
        echo "before the gate"
        until test -e /var/lib/e2e/gate; do sleep 0.05; done
        echo "behind the gate"
        touch /var/lib/e2e/passed
      creates: /var/lib/e2e/passed
  - reboot: always
  - id: late
    as: root
    command: { run: touch /var/lib/e2e/late, creates: /var/lib/e2e/late }
RECIPE
    cat >"$suite_dir/plain.yaml" <<'RECIPE'
name: plain
steps:
  - id: plain
    as: root
    command: { run: touch /var/lib/e2e/plain, creates: /var/lib/e2e/plain }
  - reboot: when_required
RECIPE
    cat >"$suite_dir/restless.yaml" <<'RECIPE'
name: restless
steps:
  - { id: a, reboot: always }
  - { id: b, reboot: always }
  - { id: c, reboot: always }
  - { id: d, reboot: always }
RECIPE
    cat >"$suite_dir/deadly.yaml" <<'RECIPE'
name: deadly
steps:
  - id: deadly
    as: root
    command: { run: systemctl reboot && sleep 600, unless: "false" }
RECIPE
}

close_gates() { testbed exec box rm -rf /var/lib/e2e; }
open_gate() { testbed exec box touch /var/lib/e2e/gate; }

# Starts gpustrap in the background: $follower is its process, `shown` and `told` look at what it has printed.
follow() {
    following=$suite_dir/follower
    mkdir -p "$following"
    rm -f "$following"/*
    "$bin/gpustrap" "$@" >"$following/shown" 2>"$following/told" </dev/null &
    follower=$!
}

begin() {
    close_gates
    follow up "$1" "$host" -i "$key" --accept-new-host-key -y --no-tunnel "${@:2}"
}

# Waits for what `follow` started, 120 s at most, and keeps its exit status and output for the expectations.
end_of_run() {
    local deadline=$((SECONDS + 120))
    while kill -0 "$follower" 2>/dev/null; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "gpustrap did not end within 120 s; it has told:"$'\n'"$(tail -n 5 "$following/told")"
            kill -KILL "$follower"
        }
        sleep 0.1
    done
    status=0
    wait "$follower" 2>/dev/null || status=$?
    cat "$following/shown" "$following/told" >output
}

shown() { grep -q -s -F -- "$1" "$following/shown"; }
shown_events() { grep "^{\"event\":\"$1\"" "$following/shown" || true; }
boots() { shown_events runner_started | grep -o '"boot_id":"[^"]*"'; }

# How a step ended, once for each runner: "changed unchanged".
outcomes() {
    shown_events step_finished | grep -F "\"step\":\"$1\"" | grep -o '"outcome":"[a-z_]*"' | cut -d'"' -f4 | paste -s -d' '
}

# Read from outside: a command that is entered into a host which is just going down is stopped with it, and then holds up its end.
journal_file() {
    find "$GPUSTRAP_TESTBED_DIR/hosts/box/root/var/lib/gpustrap/runs" -name events.jsonl -printf '%T@ %p\n' 2>/dev/null |
        sort -n | tail -n 1 | cut -d' ' -f2-
}

journal() { cat "$(journal_file)"; }

journal_says() { journal | grep -q -F -- "$1"; }

# As if the last lines had never reached the disk: the host is off.
lose_last_events() {
    local newest
    newest=$(journal_file)
    head -n "-$1" "$newest" >kept.jsonl
    cat kept.jsonl >"$newest"
}

# What --json has printed is the newest run's journal: nothing lost, nothing twice, nothing else.
expect_whole_journal() {
    local difference count
    await_that journal_says '"event":"run_finished"'
    journal >journal.jsonl
    count=$(wc -l <journal.jsonl)
    [ "$count" -gt 8 ] || fail_case "the journal has only $count lines"
    difference=$(diff "$following/shown" journal.jsonl | head -n 5 || true)
    [ -z "$difference" ] || fail_case "shown (<) and journal (>) differ:"$'\n'"$difference"
}

# No file of it, and systemd remembers neither it nor a runner's scope.
expect_no_unit() {
    await_that no_unit_is_known
    ! on_host sh -c 'ls /etc/systemd/system/gpustrap-resume.service /etc/systemd/system/multi-user.target.wants/gpustrap-resume.service'
    expect_equal "$(cat stdout)" ''
}

no_unit_is_known() { [ -z "$(testbed exec "$host_name" systemctl list-units --all --no-legend --plain 'gpustrap-*')" ]; }
