# shellcheck shell=bash disable=SC2154,SC2034 # host_name, following and the like are the frame's
# What may happen to a run, and how its end is reached and judged in spite of it.

kinds=(cut away stall slow serve runner step controller power reboot lock full second twin other
    freeze_serve freeze_runner freeze_step freeze_controller)

# Between three and six of them, each after a random number of events: $disturbances and $moments.
draw_disturbances() {
    disturbances=() moments=()
    local count=$((3 + RANDOM % 4)) at=4
    while [ ${#disturbances[@]} -lt "$count" ]; do
        at=$((at + 1 + RANDOM % 30))
        moments+=("$at")
        disturbances+=("${kinds[RANDOM % ${#kinds[@]}]}")
    done
    pauses=()
    while [ ${#pauses[@]} -lt "$count" ]; do pauses+=($((1 + RANDOM % 3))); done
}

# Until so many events have been shown; false where the run ended first. A run that stands still is disturbed none the less.
await_events() {
    local deadline=$((SECONDS + 25))
    while [ "$(shown_events)" -lt "$1" ] && [ $SECONDS -lt $deadline ]; do
        is_following || return 1
        sleep 0.05
    done
    is_following
}

# The file comes with the program's first moment.
shown_events() { cat "$following/shown" 2>/dev/null | wc -l; }

is_following() { kill -0 "$follower" 2>/dev/null; }

disturb() {
    local pause=${pauses[0]}
    # What is entered into a host that goes down just then stops with it, and holds its shutdown up for as long as it may last.
    local -x GPUSTRAP_TESTBED_EXEC_LIMIT=20
    pauses=("${pauses[@]:1}")
    case $1 in
    cut) relay cut ;;
    away)
        relay refuse
        sleep "$pause"
        relay go
        ;;
    stall)
        relay stall
        sleep "$((pause * 2))"
        relay go
        ;;
    # From here on, to the end of the round: round trips of 50 to 400 ms, one way of which is half.
    slow) relay latency $((25 + RANDOM % 176)) ;;
    serve) signal_agent KILL serve ;;
    runner) signal_agent KILL runner ;;
    step) signal_agent KILL step ;;
    freeze_serve | freeze_runner | freeze_step)
        signal_agent STOP "${1#freeze_}"
        sleep "$((pause * 2))"
        signal_agent CONT "${1#freeze_}"
        ;;
    freeze_controller)
        kill -STOP "$follower" || true
        sleep "$((pause * 2))"
        kill -CONT "$follower" || true
        ;;
    controller)
        kill -KILL "$follower" || true
        wait "$follower" 2>/dev/null || true
        keep_view part
        follow attach "$there" --json
        ;;
    power)
        testbed kill "$host_name"
        testbed start "$host_name"
        ;;
    reboot) testbed reboot "$host_name" ;;
    lock) hold_dpkg_lock "$pause" ;;
    full)
        testbed exec "$host_name" sh -c 'dd if=/dev/zero of=/filler bs=1M 2>/dev/null; dd if=/dev/zero bs=4k >>/filler 2>/dev/null; true'
        sleep "$pause"
        testbed exec "$host_name" rm -f /filler
        ;;
    second) look_on attach "$there" ;;
    twin) look_on up "$suite_dir/thirty.yaml" "$there" -y --no-tunnel ;;
    other) try_another_recipe ;;
    esac
}

# signal_agent SIGNAL serve|runner|step: all of that sort, as far as there are any just now. A step is what a runner has started.
signal_agent() {
    # shellcheck disable=SC2016 # expanded on the host
    testbed exec "$host_name" sh -c 'for p in /proc/[0-9]*; do
        case $(readlink $p/exe) in */agent-*) ;; *) continue ;; esac
        parent=$(sed -n "s/^PPid:[^0-9]*//p" $p/status)
        case $(readlink /proc/$parent/exe)" of "$(tr "\\0" " " <$p/cmdline) in
        */agent-*" of "*) sort=step ;;
        *" runner "* | *" resume "*) sort=runner ;;
        *" serve "*) sort=serve ;;
        *) sort=none ;;
        esac
        [ $sort != "$2" ] || kill -"$1" ${p#/proc/}
    done; true' sh "$1" "$2" 2>/dev/null
}

# Another controller that wants the same, or only looks: it must be shown what the first one is.
look_on() {
    local view=$suite_dir/onlooker${#onlookers[@]}
    "$bin/gpustrap" "$@" --json >"$view" 2>"$view.told" </dev/null &
    onlookers+=("$!:$view")
}

# Onlookers that came to a run's end have seen the whole of it; one that was refused, because the host was just going down, saw nothing.
await_onlookers() {
    local onlooker
    for onlooker in "${onlookers[@]}"; do
        wait "${onlooker%%:*}" 2>/dev/null || true
        grep -q '"event":"run_finished"' "${onlooker#*:}" || continue
        cp "${onlooker#*:}" "$case_dir/view${#views[@]}"
        views+=("whole:$case_dir/view${#views[@]}")
    done
    onlookers=()
}

# A record lock, as dpkg's own.
hold_dpkg_lock() {
    # shellcheck disable=SC2016 # perl's own
    testbed exec "$host_name" systemd-run --quiet --collect /usr/bin/perl -e '
        use Fcntl;
        open(my $file, ">>", "/var/lib/dpkg/lock-frontend") or exit 0;
        my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
        fcntl($file, F_SETLK, $lock) or exit 0;
        sleep '"$1"';' || true
}

# While a run is in progress another recipe is refused, and leaves nothing.
try_another_recipe() {
    printf 'name: other\nsteps:\n  - command: { run: touch /srv/other, creates: /srv/other }\n    as: root\n' >"$suite_dir/other.yaml"
    "$bin/gpustrap" up "$suite_dir/other.yaml" "$there" -y --no-tunnel >"$case_dir/other" 2>&1 </dev/null || status=$?
    [ "$status" -eq 10 ] || ! is_following || fail_case "another recipe met a run in progress and ended with $status: $(tail -n 3 "$case_dir/other")"
}

# Keeps what a controller has shown: `whole` where it followed the run to its end, `part` where it was killed.
keep_view() {
    local number=${#views[@]}
    cp "$following/shown" "$case_dir/view$number"
    views+=("$1:$case_dir/view$number")
}

# The world is well again.
calm_down() {
    relay go
    relay latency 0
    testbed exec "$host_name" rm -f /filler
}

# The run's end, whatever it takes: a step that was killed or found no room fails its run, and the same command goes on from there.
bring_to_an_end() {
    local attempt
    for attempt in 1 2 3 4; do
        local deadline=$((SECONDS + 240))
        while is_following && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
        if is_following; then
            kill -KILL "$follower"
            fail_case "attempt $attempt came to no end in 240 s; it shows last: $(tail -n 1 "$following/shown")"
            return
        fi
        end_of_run
        await_onlookers
        if grep -q '"event":"run_finished"' "$following/shown"; then keep_view whole; else keep_view part; fi
        expect_views_whole
        [ "$status" -ne 0 ] || return 0
        views=()
        follow_up "$suite_dir/thirty.yaml" --json
    done
    fail_case "it still fails at the fourth attempt; the output ends:"$'\n'"$(last_output)"
}

# Every view of a run is its journal from the start: to the end, or as far as its controller lived.
expect_views_whole() {
    local view file size run
    for view in "${views[@]}"; do
        file=${view#*:}
        run=$(grep -o -m 1 '"run":"[^"]*"' "$file" | cut -d'"' -f4 || true)
        if [ -z "$run" ]; then
            [ "${view%%:*}" = part ] || fail_case "a view does not say of which run it is: $file"
            continue
        fi
        testbed exec "$host_name" cat "/var/lib/gpustrap/runs/$run/events.jsonl" >"$case_dir/journal.jsonl"
        if [ "${view%%:*}" = whole ]; then
            cmp -s "$file" "$case_dir/journal.jsonl" ||
                fail_case "a view (<) is not the journal (>):"$'\n'"$(diff "$file" "$case_dir/journal.jsonl" | head -n 5)"
        else
            size=$(wc -c <"$file")
            cmp -s -n "$size" "$file" "$case_dir/journal.jsonl" || fail_case "a view that was cut short is not the journal's beginning: $file"
        fi
    done
}

expect_nothing_left() {
    await_that no_gpustrap_runs
    # A scope ends when systemd hears of it; what it remembers of the run is gone with the run.
    await_that no_gpustrap_unit
    on_host systemctl --failed --no-legend --plain
    expect_equal "$(cat "$case_dir/stdout")" "$(cat "$suite_dir/failed_units")"
    on_host sh -c 'find /run/gpustrap /home/ubuntu/.cache /usr/local/lib/gpustrap /var/lib/gpustrap/cache -type f ! -name "agent-*" 2>/dev/null; true'
    expect_equal "$(cat "$case_dir/stdout")" ''
    on_host sh -c 'find /etc/systemd /run/systemd/system /run/systemd/transient -name "gpustrap*" 2>/dev/null; true'
    expect_equal "$(cat "$case_dir/stdout")" ''
    on_host sh -c 'find /home /srv /etc -name "*.gpustrap-*" -o -name "*.part"'
    expect_equal "$(cat "$case_dir/stdout")" ''
}

# Not even remembered.
no_gpustrap_unit() { [ -z "$(testbed exec "$host_name" systemctl list-units --all --no-legend --plain 'gpustrap-*')" ]; }

no_gpustrap_runs() {
    ! testbed exec "$host_name" sh -c 'readlink /proc/[0-9]*/exe | grep gpustrap'
}
