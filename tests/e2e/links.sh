# shellcheck shell=bash disable=SC2034,SC2154 # host, status and the like are the frame's
# A run does not need its connection: links that break, programs that are killed, people who leave.

links_needs() { needs_gpustrap; }

links_cases() {
    recipes
    boot_host box
    start_relay

    case_ "a link that breaks mid-run is taken up again, and every event is shown once"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    relay refuse
    open_gate middle # the run goes on while nobody listens
    await_that journal_says "second half"
    relay go
    await_that told "connected again"
    open_gate end
    end_of_run
    expect_exit 0
    expect_output "connection lost"
    expect_whole_journal

    case_ "a connection that only stands still loses nothing"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    relay stall
    open_gate middle
    await_that journal_says "second half"
    relay go
    open_gate end
    end_of_run
    expect_exit 0
    expect_no_output "connection lost"
    expect_whole_journal

    case_ "a host that has another address meanwhile is looked up again, and followed there"
    cp "$suite_dir/home/ssh_config" "$suite_dir/ssh_config.kept"
    name_lab "$relay_address" "$relay_port"
    close_gates
    follow up "$suite_dir/gated.yaml" "$user@lab" -i "$key" --accept-new-host-key -y --no-tunnel --json
    await_that shown "line 40"
    name_lab "$address" 22
    relay refuse # nobody is found at the old one from here on
    open_gate middle
    await_that told "connected again"
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal
    relay go
    cp "$suite_dir/ssh_config.kept" "$suite_dir/home/ssh_config"

    case_ "kill -9 of the controller: the run goes on, and attach replays it from the start"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    kill -KILL "$follower"
    end_of_run
    open_gate middle
    await_that journal_says "second half"
    gpustrap status "$there"
    expect_exit 0
    expect_output "gated is running"
    attach --json
    await_that shown "second half"
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal

    case_ "attach to a run that is over shows the same"
    attach --json
    end_of_run
    expect_exit 0
    expect_whole_journal

    case_ "kill -9 of the agent's serve: the controller comes back, the run knows nothing of it"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    kill_serve
    open_gate middle
    await_that shown "second half"
    open_gate end
    end_of_run
    expect_exit 0
    expect_output "connected again"
    expect_whole_journal
    expect_equal "$(grep -c '"event":"runner_started"' "$following/shown")" 1

    case_ "kill -9 of the runner: another takes the run up, and what was done stays done"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    local step_pid
    step_pid=$(testbed exec box cat /run/gated.pid)
    kill_runner
    await_that shown '"incarnation":2'
    ! on_host kill -0 "$step_pid"
    expect_exit 1 # a step does not outlive its runner
    open_gate middle
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(grep '"event":"step_finished"' "$following/shown" | grep '"step":"first"' | grep -c '"outcome":"changed"')" 1

    case_ "with controller, serve and runner all gone, attach takes the run up"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    kill -KILL "$follower"
    end_of_run
    kill_serve
    kill_runner
    gpustrap status "$there"
    expect_output "was interrupted"
    attach --json
    await_that shown '"incarnation":2'
    open_gate middle
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal

    case_ "a host that loses its power mid-run is waited for, and the run goes on"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    testbed kill box
    testbed start box
    await_that shown '"incarnation":2'
    open_gate middle
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal

    case_ "Ctrl-C leaves: exit 9, how to come back, how to stop; the run goes on"
    begin "$suite_dir/gated.yaml"
    await_that shown "line 40"
    kill -INT "$follower"
    end_of_run
    expect_exit 9
    expect_output "The run goes on"
    expect_output "gpustrap attach ubuntu@127.0.0.1"
    expect_output "gpustrap cancel ubuntu@127.0.0.1"

    case_ "status and logs tell about a run in progress"
    gpustrap status "$there"
    expect_exit 0
    expect_output "gated is running"
    expect_output "at gated"
    follow logs "$there" gated -f
    await_that shown "line 40"
    open_gate middle
    await_that shown "second half"
    kill -INT "$follower"
    end_of_run
    expect_no_output "first step"
    gpustrap status "$there"
    expect_output "gated is running"

    case_ "the same recipe again follows the run that is there, from its start"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "second half"
    expect_equal "$(grep -c "running there already" "$following/told")" 1

    case_ "another recipe is told what runs, and how to follow or stop it"
    gpustrap up "$suite_dir/other.yaml" "$there" -y --no-tunnel
    expect_exit 10
    expect_output "gated"
    expect_output "gpustrap attach"
    expect_output "gpustrap cancel"
    ! on_host test -e /run/other
    expect_exit 1

    case_ "a plan may be made while a run is in progress"
    gpustrap plan "$suite_dir/other.yaml" "$there"
    expect_exit 0

    case_ "SIGTERM leaves too, at once"
    kill -TERM "$follower"
    end_of_run
    expect_exit 9
    expect_output "to follow it: gpustrap up"

    case_ "cancel ends the run after its step, for everyone who follows it"
    attach
    await_that shown "second half"
    gpustrap cancel "$there"
    expect_exit 0
    expect_output "after its current step"
    expect_output "gpustrap cancel $there --now"
    await_that shown "ancelled by"
    gpustrap status "$there"
    expect_output "gated was cancelled by gpustrap cancel and ends after its step, at"
    open_gate end
    end_of_run
    expect_exit 130
    ! on_host test -e /run/last
    expect_exit 1
    gpustrap status "$there"
    expect_output "gated cancelled"
    gpustrap cancel "$there"
    expect_exit 1
    expect_output "no run is in progress"

    case_ "Ctrl-C twice cancels"
    begin "$suite_dir/gated.yaml" --json
    await_that shown "line 40"
    kill -INT "$follower"
    await_that told "Ctrl-C again within 3 s cancels"
    kill -INT "$follower"
    await_that journal_says '"event":"cancel_requested"'
    open_gate middle
    open_gate end
    end_of_run
    expect_exit 130
    expect_whole_journal

    case_ "logs of a run that is over: all steps with their names, or one"
    gpustrap logs "$there"
    expect_exit 0
    expect_output "[first] first step"
    expect_output "[gated] line 40"
    gpustrap logs "$there" gated
    expect_exit 0
    expect_output "line 40"
    expect_no_output "first step"
    gpustrap logs "$there" gate
    expect_exit 2
    expect_output "no step \`gate\`"
    expect_output "gated"

    case_ "--detach starts the run and leaves it to itself"
    close_gates
    gpustrap up "$suite_dir/gated.yaml" "$there" -y --no-tunnel --detach
    expect_exit 9
    expect_output "gpustrap attach"
    open_gate middle
    open_gate end
    await_that journal_says '"event":"run_finished"'

    case_ "--json is what the host's journal holds, line by line"
    begin "$suite_dir/gated.yaml" --json
    open_gate middle
    open_gate end
    end_of_run
    expect_exit 0
    expect_whole_journal

    # What the wire is asked for, which no busy machine changes: bench/ has the times.
    case_ "a rerun costs the round trips of one command, and little else"
    relay latency 150
    gpustrap up "$suite_dir/other.yaml" "$there" -y --no-tunnel
    expect_exit 0
    gpustrap up "$suite_dir/other.yaml" "$there" -y --no-tunnel
    expect_exit 0
    expect_output "Unchanged"
    # Greeting, key exchange, login service, login, channel, command; and whatever is said at the end, which nobody waits for.
    expect_at_most 7 turns
    expect_at_most 6000 up
    expect_at_most 6000 down

    case_ "a first command adds the way of the agent to it, and no more"
    local agent
    agent=$(on_host_agent)
    testbed exec box rm -rf /usr/local/lib/gpustrap
    gpustrap up "$suite_dir/other.yaml" "$there" -y --no-tunnel
    expect_exit 0
    expect_equal "$(on_host_agent)" "$agent"
    # Nine, and up to five more: sshd lets 2 MiB come at once, and for the rest it gives leave piece by piece, as soon as it has got round to
    # it.
    expect_at_most 14 turns
    expect_at_most 2450000 up
    relay latency 0

    case_ "an agent whose way there is cut is gone on with from where it was"
    testbed exec box rm -rf /usr/local/lib/gpustrap
    relay bandwidth 4
    follow up "$suite_dir/other.yaml" "$there" -y --no-tunnel --json
    await_that half_an_agent_is_there
    relay cut
    relay bandwidth 0
    end_of_run
    expect_exit 0
    expect_equal "$(on_host_agent)" "$agent"
    expect_at_most 1600000 up # of 2,400,000

    case_ "a connection that is kept serves the next commands, without another login"
    local before
    XDG_RUNTIME_DIR=$(mktemp -d /tmp/gpustrap-kept.XXXXXX)
    export XDG_RUNTIME_DIR
    gpustrap up "$suite_dir/other.yaml" "$host" -i "$key" -y --no-tunnel --keep 5m
    expect_exit 0
    before=$(logins)
    gpustrap up "$suite_dir/other.yaml" "$host" -i "$key" -y --no-tunnel
    expect_exit 0
    expect_output "Unchanged"
    gpustrap logs "$host" -i "$key"
    expect_exit 0
    expect_equal "$(logins)" "$before"

    case_ "a command that leaves in the middle of its run ends it, and the run goes on"
    close_gates
    follow up "$suite_dir/gated.yaml" "$host" -i "$key" -y --no-tunnel --json
    await_that shown "line 40"
    kill -KILL "$follower"
    end_of_run
    open_gate middle
    open_gate end
    gpustrap attach "$host" -i "$key"
    expect_exit 0
    expect_output "line 80"

    case_ "--keep 0 ends one, and then every command logs in by itself"
    gpustrap up "$suite_dir/other.yaml" "$host" -i "$key" -y --no-tunnel --keep 5m
    expect_exit 0
    gpustrap up "$suite_dir/other.yaml" "$host" -i "$key" -y --no-tunnel --keep 0
    expect_exit 0
    await_that nothing_is_kept
    before=$(logins)
    gpustrap up "$suite_dir/other.yaml" "$host" -i "$key" -y --no-tunnel
    expect_exit 0
    expect_equal "$(logins)" "$((before + 1))"

    case_ "a name that leads elsewhere by now is not served by what was kept for where it led"
    name_lab "$relay_address" "$relay_port"
    gpustrap up "$suite_dir/other.yaml" "$user@lab" -i "$key" --accept-new-host-key -y --no-tunnel --keep 5m
    expect_exit 0
    before=$(logins)
    gpustrap logs "$user@lab" -i "$key"
    expect_exit 0
    expect_equal "$(logins)" "$before"
    name_lab "$address" 22
    gpustrap logs "$user@lab" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_equal "$(logins)" "$((before + 1))"
    cp "$suite_dir/ssh_config.kept" "$suite_dir/home/ssh_config"
    rm -rf "$XDG_RUNTIME_DIR/gpustrap"
    await_that nothing_is_kept
    rm -rf "$XDG_RUNTIME_DIR"
    unset XDG_RUNTIME_DIR

    case_ "nothing is left running"
    ! on_host sh -c 'readlink /proc/[0-9]*/exe | grep gpustrap'
    expect_equal "$(cat stdout)" ''
}

half_an_agent_is_there() { testbed exec box sh -c 'test "$(cat /usr/local/lib/gpustrap/part-* | wc -c)" -gt 1000000'; }
on_host_agent() { testbed exec box sh -c 'cd /usr/local/lib/gpustrap && ls -A'; }

# Of the connection through the relay that was the last, once it is over. The names are those of `relay stats`.
expect_at_most() {
    local stats
    await_that no_connection_is_open
    stats=$(relay stats)
    python3 -c 'import json, sys; sys.exit(json.loads(sys.argv[1])["last"][sys.argv[2]] > int(sys.argv[3]))' "$stats" "$2" "$1" ||
        fail_case "more than $1 $2: $stats"
}
no_connection_is_open() { relay stats | grep -q '"open": 0,'; }

logins() {
    testbed exec box journalctl --sync
    testbed exec box journalctl --quiet --no-pager -u ssh | grep -c 'Accepted publickey'
}

# The keeper's process has the test's folder of sockets in its environment.
nothing_is_kept() {
    local -a programs
    mapfile -t programs < <(pgrep -x gpustrap | sed 's|.*|/proc/&/environ|')
    ! grep -qsz "^XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR$" "${programs[@]}" /dev/null
}

# A run with three steps, of which the second says 40 lines, waits, says 40 more, and waits.
recipes() {
    cat >"$suite_dir/gated.yaml" <<'RECIPE'
name: gated
steps:
  - id: first
    as: root
    command: { run: "echo first step; touch /run/first", creates: /run/first }
  - id: gated
    as: root
    command:
      run: |
        echo $$ >/run/gated.pid
        for i in $(seq 1 40); do echo "line $i"; done
        until test -e /run/middle; do sleep 0.05; done
        echo "second half"
        for i in $(seq 41 80); do echo "line $i"; done
        until test -e /run/end; do sleep 0.05; done
      unless: test -e /run/end
  - id: last
    as: root
    command: { run: touch /run/last, creates: /run/last }
RECIPE
    printf 'name: other\nsteps:\n  - command: { run: touch /run/other, creates: /run/other }\n    as: root\n' >"$suite_dir/other.yaml"
}

close_gates() { testbed exec box rm -f /run/first /run/middle /run/end /run/last; }
open_gate() { testbed exec box touch "/run/$1"; }

# `up RECIPE` through the relay, to $there, with the gates closed.
begin() {
    close_gates
    follow_up "$@"
}

# The host under a name of its own, at an address that can change.
name_lab() {
    {
        printf 'Host lab\n    HostName %s\n    Port %s\n' "$1" "$2"
        cat "$suite_dir/ssh_config.kept"
    } >"$suite_dir/home/ssh_config"
}
