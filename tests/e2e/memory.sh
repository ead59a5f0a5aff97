# shellcheck shell=bash disable=SC2154 # host, key and the like are the frame's
# What systemd does with a run of which a process was killed for memory. Who kills is played: systemd keeps count of such kills in an
# attribute of the unit's control group, looks at it whenever an orphan of the unit ends, and is told of one more. What it then does with
# the unit, by its OOMPolicy, is systemd's own. (What the kernel does is in poor_hosts.)

memory_needs() { needs_gpustrap; }

memory_cases() {
    recipe

    case_ "systemd ends a scope for it, where it was told nothing: so it does look"
    boot_host new
    testbed exec new systemd-run --quiet --collect sh -c \
        'exec systemd-run --quiet --scope --unit=plain sh -c "(setsid sh -c \"until test -e /run/orphan; do sleep 0.1; done\" &); exec sleep 600"'
    await_that is_active plain.scope
    report_kill plain.scope
    await_that has_failed plain.scope
    testbed exec new systemctl reset-failed plain.scope

    case_ "a run is told to go on, and does"
    run_goes_on
    expect_equal "$policy" continue

    case_ "so does one that systemd has taken up at boot"
    testbed exec new rm -rf /var/lib/e2e
    begin
    await_that testbed exec new test -e /run/eats
    kill -KILL "$follower" # or it would bring a runner back before systemd does
    end_of_run
    testbed kill new
    testbed start new
    await_that testbed exec new test -e /run/eats
    follow attach "$host" --json
    expect_equal "$(testbed exec new systemctl show --property OOMPolicy --value gpustrap-resume.service)" continue
    report_kill gpustrap-resume.service
    await_that reported gpustrap-resume.service
    is_active gpustrap-resume.service || fail_case "the unit did not go on"
    testbed exec new touch /run/full
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(grep -c '"event":"runner_started"' "$following/shown")" 2

    case_ "the same with the systemd of the next release"
    boot_host next --codename trixie
    run_goes_on
    expect_equal "$policy" continue

    case_ "before systemd 251 a scope has no such policy, and is made without"
    boot_host old --codename bullseye
    begin_in_scope
    expect_equal "$policy" ''
    testbed exec old touch /run/full
    end_of_run
    expect_exit 0
    expect_equal "$(grep -c '"event":"runner_started"' "$following/shown")" 1
}

# A run, of which systemd hears in its middle that a process was killed for memory: it goes on to its end, with the one runner.
run_goes_on() {
    begin_in_scope
    report_kill "$scope"
    await_that reported "$scope"
    is_active "$scope" || fail_case "the unit did not go on"
    testbed exec "$host_name" touch /run/full
    end_of_run
    expect_exit 0
    expect_whole_journal
    expect_equal "$(grep -c '"event":"runner_started"' "$following/shown")" 1
}

# $scope is the run's, and $policy what it says of memory.
begin_in_scope() {
    begin
    await_that testbed exec "$host_name" test -e /run/eats
    scope=$(testbed exec "$host_name" systemctl list-units --no-legend --plain 'gpustrap-run-*.scope' | cut -d' ' -f1)
    expect_different "$scope" ''
    # Else systemd would not see the orphan end in it, and it would end with the login's session.
    testbed exec "$host_name" grep -q -x -F -f /run/orphan.pid "/sys/fs/cgroup/system.slice/$scope/cgroup.procs" ||
        fail_case "what the first step has started is not in the run's scope"
    policy=$(testbed exec "$host_name" systemctl show --property OOMPolicy --value "$scope")
}

recipe() {
    cat >"$suite_dir/memory.yaml" <<'RECIPE'
name: memory
steps:
  - id: eats
    as: root
    command:
      run: |
        (setsid sh -c 'echo $$ >/run/orphan.pid; until test -e /run/orphan; do sleep 0.1; done' >/dev/null 2>&1 </dev/null &)
        until test -s /run/orphan.pid; do sleep 0.1; done
        touch /run/eats
        until test -e /run/full; do echo "at table"; sleep 0.1; done
        mkdir -p /var/lib/e2e
        touch /var/lib/e2e/done
      creates: /var/lib/e2e/done
RECIPE
}

begin() {
    testbed exec "$host_name" rm -f /run/orphan /run/orphan.pid /run/eats /run/full
    follow up "$suite_dir/memory.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel --json
}

# One more kill in the count of a unit; then its orphan ends, and systemd looks.
report_kill() {
    # shellcheck disable=SC2016 # perl's own
    testbed exec "$host_name" perl -e '
        my ($folder, $count) = ("/sys/fs/cgroup/system.slice/$ARGV[0]", "1");
        my %setxattr = (x86_64 => 188, aarch64 => 5);
        for (qw(user.oomd_kill user.oomd_ooms)) {
            my $name = $_; # what a system call is given must be a variable
            syscall($setxattr{$ARGV[1]}, $folder, $name, $count, length $count, 0) == 0 or die "$folder: $!";
        }' "$1" "$(uname -m)"
    testbed exec "$host_name" touch /run/orphan
}

is_active() { testbed exec "$host_name" systemctl is-active --quiet "$1"; }
has_failed() { testbed exec "$host_name" systemctl is-failed "$1"; }
reported() { testbed exec "$host_name" journalctl --no-pager -b -u "$1" | grep -q "systemd-oomd killed"; }
