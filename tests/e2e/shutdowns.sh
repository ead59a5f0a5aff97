# shellcheck shell=bash disable=SC2154 # host, key and the like are the frame's
# A host that is told to go down while a run is at work: what changes packages comes to its end first, and the run goes on at the next boot.
# The package is a stand-in whose script waits at a gate; systemd, logind, apt and dpkg are the host's own.

shutdowns_needs() { needs_gpustrap; }

shutdowns_cases() {
    boot_host box
    publish
    recipes

    case_ "while dpkg works, apt asks that the host be kept up"
    begin packages
    await_that at_the_gate
    on_host systemd-inhibit --list --no-pager
    expect_output "APT"
    expect_output "block"

    case_ "a restart that root asks for all the same waits until dpkg is done; the rest is interrupted, and nothing holds it up"
    restart
    # Everything else was told to end long ago; the script is still there, and its step with it.
    await_that sshd_is_gone
    at_the_gate || fail_case "the package's script did not outlive the shutdown's beginning"
    open_gate
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(shown_events runner_started | wc -l)" 2
    expect_equal "$(outcomes packages)" "changed unchanged"
    expect_equal "$(outcomes watch)" changed
    expect_output '"interrupted":["watch"]'
    expect_healthy stand-in-gated
    expect_no_unit

    case_ "the same in the run that systemd has taken up after a restart"
    testbed exec box sh -c 'apt-get purge -q -y stand-in-gated >/dev/null; rm -rf /var/lib/e2e'
    begin twice
    await_that at_the_gate
    testbed exec box systemctl is-active gpustrap-resume.service
    restart
    await_that sshd_is_gone
    at_the_gate || fail_case "the package's script did not outlive the shutdown's beginning"
    open_gate
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(shown_events runner_started | wc -l)" 3
    expect_equal "$(outcomes packages)" "changed unchanged"
    expect_healthy stand-in-gated
    expect_no_unit

    case_ "a cancel lets dpkg finish, too, and starts nothing behind it"
    testbed exec box sh -c 'apt-get purge -q -y stand-in-gated >/dev/null; rm -rf /var/lib/e2e'
    begin packages
    await_that at_the_gate
    gpustrap cancel "$host" -i "$key"
    at_the_gate || fail_case "the cancel ended the package's script"
    gpustrap cancel "$host" -i "$key" --now
    expect_exit 0
    expect_output "stops now"
    await_that journal_says "it was stopped: the run was cancelled"
    at_the_gate || fail_case "cancel --now ended the package's script"
    open_gate
    testbed exec box touch /var/lib/e2e/watched
    end_of_run
    expect_different "$status" 0
    expect_output '"end":"cancelled"'
    expect_whole_journal
    expect_healthy stand-in-gated
    await_that no_run_is_kept_up # what its other step has left running is in a scope of its own

    case_ "a runner that somebody ends interrupts its steps, lets dpkg finish, and leaves the run to the next one"
    testbed exec box sh -c 'apt-get purge -q -y stand-in-gated >/dev/null; rm -rf /var/lib/e2e'
    begin packages
    await_that at_the_gate
    testbed exec box kill -TERM "$(runner_id)"
    await_that journal_says "this run's process was told to end"
    open_gate
    testbed exec box touch /var/lib/e2e/watched
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(outcomes packages)" "changed unchanged"
    expect_healthy stand-in-gated

    case_ "what a run has left running does not hold up a later shutdown"
    testbed exec box systemctl kill --signal=KILL 'gpustrap-left-*.scope' # the deaf one of the last run
    printf 'name: leaves\nsteps:\n  - as: root\n    command: { run: "setsid sleep 5000 >/dev/null 2>&1 </dev/null & touch /run/left", creates: /run/left }\n' \
        >"$suite_dir/leaves.yaml"
    up "$suite_dir/leaves.yaml"
    expect_exit 0
    on_host pgrep -f "[s]leep 5000"
    local began=$SECONDS
    testbed reboot box
    [ $((SECONDS - began)) -lt 60 ] || fail_case "the host took $((SECONDS - began)) s to go down and come back"

    case_ "a repair by dpkg alone asks that the host be kept up, too"
    testbed exec box sh -c 'apt-get purge -q -y stand-in-gated >/dev/null; rm -rf /var/lib/e2e'
    rm -f "$(gate)"/*
    testbed exec box sh -c 'exec setsid apt-get install -y -q stand-in-gated' >installer 2>&1 </dev/null &
    local installer=$!
    await_that at_the_gate
    testbed exec box sh -c 'pkill -KILL apt-get; pkill -KILL dpkg; pkill -KILL -f "[s]tand-in"'
    wait "$installer" || true
    begin packages
    await_that at_the_gate
    on_host systemd-inhibit --list --no-pager
    expect_output "gpustrap"
    expect_output "packages are being installed"
    open_gate
    testbed exec box touch /var/lib/e2e/watched
    end_of_run
    expect_exit 0
    expect_healthy stand-in-gated
}

recipes() {
    # Beside the packages: a step that ends only on the next boot, and one that leaves a deaf process behind.
    cat >"$suite_dir/packages.yaml" <<'RECIPE'
name: packages
steps:
  - id: deaf
    as: root
    command:
      run: |
        mkdir -p /var/lib/e2e
        setsid sh -c 'trap "" TERM; while :; do sleep 600; done' >/dev/null 2>&1 </dev/null &
        touch /var/lib/e2e/deaf
      creates: /var/lib/e2e/deaf
  - id: watch
    needs: [deaf]
    as: root
    command:
      run: |
        cat /proc/sys/kernel/random/boot_id >>/var/lib/e2e/boots
        until [ -e /var/lib/e2e/watched ] || [ "$(sort -u /var/lib/e2e/boots | wc -l)" = 2 ]; do sleep 0.1; done
        touch /var/lib/e2e/watched
      creates: /var/lib/e2e/watched
  - id: packages
    needs: [deaf]
    apt: [stand-in-gated]
RECIPE
    cat >"$suite_dir/twice.yaml" <<'RECIPE'
name: twice
steps:
  - reboot: always
  - id: packages
    apt: [stand-in-gated]
RECIPE
}

publish() {
    local folder=$suite_dir/stand-in-gated
    mkdir -p "$folder/DEBIAN"
    printf 'Package: stand-in-gated\nVersion: 1.0\nArchitecture: all\nMaintainer: A test <test@example.org>\nDescription: stand-in for a test\n' \
        >"$folder/DEBIAN/control"
    # shellcheck disable=SC2016 # the host's shell expands it
    printf '#!/bin/sh\nset -e\nuntil [ -e /srv/gate/open ]; do touch /srv/gate/waiting; sleep 0.1; done\n' >"$folder/DEBIAN/postinst"
    chmod 0755 "$folder/DEBIAN/postinst"
    testbed exec box mkdir -p /srv/repo
    dpkg-deb --root-owner-group --build -Znone "$folder" "$GPUSTRAP_TESTBED_DIR/hosts/box/root/srv/repo/stand-in-gated_1.0.deb" >/dev/null
    (cd "$GPUSTRAP_TESTBED_DIR/hosts/box/root/srv/repo" && dpkg-scanpackages . >Packages 2>/dev/null)
    testbed exec box sh -c "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list; apt-get update -q >/dev/null"
}

begin() {
    mkdir -p "$(gate)"
    rm -f "$(gate)"/*
    follow up "$suite_dir/$1.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --json
}

# The script's gate is on the host's disk, and looked at from outside: a command that is entered into a host which is going down holds
# up its end.
gate() { echo "$GPUSTRAP_TESTBED_DIR/hosts/box/root/srv/gate"; }
open_gate() { touch "$(gate)/open"; }

# It marks again and again that it waits.
at_the_gate() {
    rm -f "$(gate)/waiting"
    local deadline=$((SECONDS + 5))
    until [ -e "$(gate)/waiting" ]; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

restart() { GPUSTRAP_TESTBED_EXEC_LIMIT=20 testbed exec box systemctl reboot </dev/null || true; }

sshd_is_gone() { ! ssh-keyscan -T 2 "$address" 2>/dev/null | grep -q .; }

# Read from outside, for the same reason.
journal() {
    cat "$(find "$GPUSTRAP_TESTBED_DIR/hosts/box/root/var/lib/gpustrap/runs" -name events.jsonl -printf '%T@ %p\n' 2>/dev/null |
        sort -n | tail -n 1 | cut -d' ' -f2-)"
}

runner_id() { journal | grep '"event":"runner_started"' | tail -n 1 | grep -o '"pid":[0-9]*' | cut -d: -f2; }

shown_events() { grep "^{\"event\":\"$1\"" "$following/shown" || true; }

# How a step ended, once for each runner: "changed unchanged".
outcomes() {
    shown_events step_finished | grep -F "\"step\":\"$1\"" | grep -o '"outcome":"[a-z_]*"' | cut -d'"' -f4 | paste -s -d' '
}

# dpkg finds nothing wrong, and the package is installed.
expect_healthy() {
    on_host dpkg --audit
    expect_equal "$(cat "$case_dir/output")" ''
    # shellcheck disable=SC2016 # dpkg's own placeholders
    on_host dpkg-query -W -f '${Status}' "$1"
    expect_equal "$(cat "$case_dir/stdout")" "install ok installed"
}

expect_no_unit() { await_that no_unit_is_known; }

no_unit_is_known() { [ -z "$(testbed exec box systemctl list-units --all --no-legend --plain 'gpustrap-*')" ]; }

no_run_is_kept_up() { [ -z "$(testbed exec box systemctl list-units --all --no-legend --plain 'gpustrap-run-*' 'gpustrap-resume*')" ]; }
