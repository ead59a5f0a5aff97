# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# Hosts that lack something: room, certificates, time.

poor_hosts_needs() { needs_gpustrap; }

poor_hosts_cases() {
    mkdir -p "$suite_dir/www"
    head -c 30000000 /dev/zero >"$suite_dir/www/large"

    case_ "a full disk is named as such, and leaves no half of a file"
    boot_host small --disk 40M
    serve "$suite_dir/www"
    trust_origin
    cat >"$suite_dir/large.yaml" <<RECIPE
name: large
steps:
  - download: { url: $origin/large, to: /opt/large }
RECIPE
    on_host sh -c 'head -c 15M /dev/urandom >/var/ballast'
    up "$suite_dir/large.yaml"
    expect_exit 1
    expect_output "No space left"
    expect_output "free in /opt"
    ! on_host test -e /opt/large
    expect_exit 1

    case_ "with room again, the same command goes on"
    on_host rm /var/ballast
    up "$suite_dir/large.yaml"
    expect_exit 0

    case_ "a requirement that does not hold stops before any change"
    cat >"$suite_dir/roomy.yaml" <<'RECIPE'
name: roomy
steps:
  - require: { disk_free: 100GiB }
  - file: { path: /etc/gpustrap-test, content: "x\n" }
RECIPE
    take_listing
    up "$suite_dir/roomy.yaml"
    expect_exit 1
    expect_output "100"
    expect_same_listing

    case_ "a login that may open few files"
    on_host sh -c 'printf "* hard nofile 64\n* soft nofile 64\n" >/etc/security/limits.d/few.conf'
    printf 'name: few\nsteps:\n  - file: { path: ~/few, content: "x\\n" }\n' >"$suite_dir/few.yaml"
    up "$suite_dir/few.yaml"
    expect_exit 0
    on_host rm /etc/security/limits.d/few.conf

    case_ "an archive that does not fit is named as such, and leaves no half of a file"
    mkdir -p "$suite_dir/large" && head -c 12000000 /dev/urandom >"$suite_dir/large/data"
    tar -C "$suite_dir/large" -cf "$suite_dir/www/large.tar" data
    printf 'name: unpacked\nsteps:\n  - archive: { url: %s/large.tar, to: /opt/unpacked }\n' "$origin" >"$suite_dir/unpacked.yaml"
    on_host sh -c 'rm /opt/large; head -c 20M /dev/urandom >/var/ballast'
    up "$suite_dir/unpacked.yaml"
    expect_exit 1
    expect_output "No space left"
    on_host sh -c 'find /opt/unpacked -type f; true'
    expect_equal "$(cat stdout)" ''
    on_host rm /var/ballast
    up "$suite_dir/unpacked.yaml"
    expect_exit 0
    on_host rm -r /opt/unpacked

    case_ "a disk that fills up in the middle of a run ends it with that cause, and its journal is whole"
    cat >"$suite_dir/talkative.yaml" <<'RECIPE'
name: talkative
steps:
  - id: talk
    as: root
    command: { run: "until test -e /run/silence; do seq -s ' ' 1 2000; sleep 0.02; done; touch /run/talked", creates: /run/talked }
  - id: next
    as: root
    command: { run: touch /run/next, creates: /run/next }
RECIPE
    follow up "$suite_dir/talkative.yaml" "$host" -i "$key" -y --no-tunnel --json
    await_that shown '"step_output"'
    testbed exec small sh -c 'cat /dev/zero >/var/ballast 2>/dev/null; true'
    await_that shown '"step_truncated"'
    testbed exec small touch /run/silence
    end_of_run
    expect_exit 1
    expect_whole_journal
    expect_output '"event":"run_finished"'
    grep -q '"step":"talk","outcome":"changed"' "$following/shown" || fail_case "what ran did not come to its end"
    grep '"step":"next","outcome":"failed"' "$following/shown" >next || fail_case "the step that could not start does not carry the cause"
    grep -q "No space left" next || fail_case "another cause: $(<next)"
    ! on_host test -e /run/next
    expect_exit 1

    case_ "and with room again the same command goes on from there"
    testbed exec small rm /var/ballast
    up "$suite_dir/talkative.yaml" --json
    expect_exit 0
    expect_output '"step":"talk","outcome":"unchanged"'
    expect_output '"step":"next","outcome":"changed"'

    case_ "a step that runs out of memory fails alone: its runner goes on"
    cat >"$suite_dir/hungry.yaml" <<'RECIPE'
name: hungry
steps:
  - id: hungry
    as: root
    command:
      run: |
        echo "sits down"
        touch /run/hungry
        until test -e /run/table; do sleep 0.05; done
        if test -d /run/memory/table; then echo $$ >/run/memory/table/cgroup.procs; fi
        perl -e 'my $x = "x" x 200_000_000; print length $x'
        touch /run/fed
      creates: /run/fed
  - id: sated
    as: root
    command: { run: touch /run/sated, creates: /run/sated }
RECIPE
    follow up "$suite_dir/hungry.yaml" "$host" -i "$key" -y --no-tunnel --json
    await_that testbed exec small test -e /run/hungry
    lay_a_small_table
    end_of_run
    expect_exit 1
    expect_whole_journal
    expect_equal "$(grep -c '"event":"runner_started"' "$following/shown")" 1
    expect_output "was killed"
    expect_output "if memory ran out"
    expect_equal "$(testbed exec small cat /run/oom_kills)" 1
    up "$suite_dir/hungry.yaml"
    expect_exit 0

    case_ "a disk too full for the agent itself is one clear error"
    boot_host full --disk 16M
    ! on_host sh -c 'cat /dev/zero >/var/ballast' # until there is no room
    up "$suite_dir/large.yaml"
    expect_different "$status" 0
    expect_output "No space left"

    case_ "a host without certificates is told what to install"
    boot_host bare --no-ca
    sed 's,/opt/large,~/large,' "$suite_dir/large.yaml" >"$suite_dir/bare.yaml"
    up "$suite_dir/bare.yaml"
    expect_exit 1
    expect_output ca-certificates

    case_ "and can install it"
    printf 'name: certificates\nsteps:\n  - apt: [ca-certificates]\n' >"$suite_dir/certificates.yaml"
    on_host dpkg --purge --force-depends ca-certificates
    up "$suite_dir/certificates.yaml"
    expect_exit 0
    on_host test -s /etc/ssl/certs/ca-certificates.crt
    expect_exit 0
}

# Puts the runner into 96 MiB, lets the step join it there and eat, and counts what the kernel has killed. A group of the memory controller,
# in whichever of its two forms this kernel has it.
lay_a_small_table() {
    # shellcheck disable=SC2016 # expanded on the host
    testbed exec small sh -c 'set -e
        mkdir -p /run/memory
        if mount -t cgroup -o memory none /run/memory 2>/dev/null; then limit=memory.limit_in_bytes events=memory.oom_control
        else mount -t cgroup2 none /run/memory; echo +memory >/run/memory/cgroup.subtree_control; limit=memory.max events=memory.events; fi
        mkdir /run/memory/table
        echo 100663296 >/run/memory/table/$limit
        for f in memory.memsw.limit_in_bytes; do [ ! -w /run/memory/table/$f ] || echo 100663296 >/run/memory/table/$f; done
        for e in /proc/[0-9]*/exe; do
            case $(readlink $e) in */agent-*) e=${e%/exe}; grep -q -z -x -e serve $e/cmdline || echo ${e#/proc/} >/run/memory/table/cgroup.procs ;; esac
        done
        touch /run/table
        for i in $(seq 1 600); do
            sed -n "s/^oom_kill //p" /run/memory/table/$events >/run/oom_kills
            [ "$(cat /run/oom_kills)" = 0 ] || break
            sleep 0.05
        done'
    await_that testbed exec small sh -c 'rmdir /run/memory/table && umount /run/memory'
}
