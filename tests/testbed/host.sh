# shellcheck shell=bash disable=SC2154 # what `testbed` sets: dir, cache, here, registry
# A host's life: power on, reboot, power loss, removal, and looking inside. Sourced by `testbed`.

# Every host has a control group of its own. It keeps two hosts' systemd from seeing each other's
# processes, and it is how a host is killed as a whole.
cgroup_paths() {
    local name tree
    name=gpustrap-$(network_tag)-$1
    while read -r tree; do
        echo "$tree/$name"
    done < <(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/mounts)
}

host_processes() {
    local path
    for path in $(cgroup_paths "$1"); do
        [ ! -d "$path" ] || find "$path" -name cgroup.procs -exec cat {} + 2>/dev/null
    done | sort -un
}

# The host's PID 1 as this machine numbers it.
host_leader() {
    local pid
    for pid in $(host_processes "$1"); do
        if grep -q -E '^NSpid:\s+[0-9]+\s+1$' "/proc/$pid/status" 2>/dev/null; then
            echo "$pid"
            return 0
        fi
    done
    return 1
}

host_start() {
    local host=$dir/hosts/$1 path
    ! host_leader "$1" >/dev/null || die "host '$1' is already running"
    for path in $(cgroup_paths "$1"); do
        mkdir -p "$path" || die "no control group can be made at $path"
    done
    # Its own session and no inherited descriptor: it must outlive this command and hold no lock.
    setsid "$0" supervise "$1" </dev/null >>"$host/console.log" 2>&1 8>&- 9>&- &
}

# A host whose PID 1 starts sshd and nothing else. /.dockerenv is how such containers are told from machines.
make_bare() {
    touch "$1/.dockerenv" "$2/bare"
    cat >"$1/usr/local/sbin/testbed-init" <<'INIT'
#!/bin/sh
set -e
[ ! -d /usr/share/gpustrap-testbed/pci ] || mount --bind /usr/share/gpustrap-testbed/pci /sys/bus/pci/devices
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e
INIT
    chmod 0755 "$1/usr/local/sbin/testbed-init"
}

is_bare() { [ -e "$dir/hosts/$1/bare" ]; }

# Runs a host until it powers off. nspawn may end with 133 to say that the host wants a reboot.
host_supervise() {
    local name=$1 path status
    local -a way=(--boot) init=()
    if is_bare "$name"; then way=(--as-pid2) init=(/usr/local/sbin/testbed-init); fi
    [ ! -e "$dir/hosts/$name/net_admin" ] || way+=(--capability=CAP_NET_ADMIN)
    for path in $(cgroup_paths "$name"); do
        echo $BASHPID >"$path/cgroup.procs"
    done
    # systemd from 256 on refuses the old hierarchy, and every release taken here knows the new one.
    ! grep -q ' cgroup2 ' /proc/mounts || export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
    while true; do
        status=0
        systemd-nspawn --quiet --directory="$dir/hosts/$name/root" "${way[@]}" --register=no --keep-unit \
            --network-namespace-path="/run/netns/$(netns_of "$name")" --console=pipe \
            --machine="$(netns_of "$name")" --hostname="$name" --resolv-conf=off --timezone=off \
            "${init[@]}" || status=$?
        [ "$status" -eq 133 ] || return "$status"
    done
}

# Waits until the login user gets in, and in after `not_leader` (a PID 1 of an earlier boot) is gone.
host_wait() {
    local name=$1 not_leader=${2:-} host=$dir/hosts/$1 deadline=$((SECONDS + ready_limit)) leader
    while [ $SECONDS -lt $deadline ]; do
        leader=$(host_leader "$name" || true)
        if [ -n "$leader" ] && [ "$leader" != "$not_leader" ] &&
            ssh -F none -i "$dir/key" -o BatchMode=yes -o ConnectTimeout=3 -o LogLevel=QUIET \
                -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes \
                "$(<"$host/user")@$(<"$host/address")" true </dev/null >/dev/null 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    tail -n 30 "$host/console.log" >&2
    die "host '$name' did not answer within $ready_limit s; its console is above"
}

host_reboot() {
    local leader
    leader=$(host_leader "$1") || die "host '$1' is not running"
    if is_bare "$1"; then
        host_kill "$1"
        host_start "$1"
        host_wait "$1"
        return
    fi
    # The answer may be lost when the host goes down faster than it is given.
    GPUSTRAP_TESTBED_EXEC_LIMIT=20 host_exec "$1" systemctl reboot 2>/dev/null </dev/null || true
    host_wait "$1" "$leader"
}

host_gone() {
    local name=$1 deadline=$((SECONDS + $2))
    while [ -n "$(host_processes "$name")" ]; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

host_stop() {
    host_leader "$1" >/dev/null || return 0
    ! is_bare "$1" || { host_kill "$1" && return; }
    GPUSTRAP_TESTBED_EXEC_LIMIT=20 host_exec "$1" systemctl poweroff 2>/dev/null </dev/null || true
    host_gone "$1" 60 || die "host '$1' did not shut down within 60 s; 'testbed kill' ends it"
}

# Every process at once, as a cut cable would. What the host had written stays written: the disk
# belongs to this machine's kernel, so this does not show what an unsynced write would lose.
host_kill() {
    local path pid
    for path in $(cgroup_paths "$1"); do
        [ ! -w "$path/cgroup.kill" ] || echo 1 >"$path/cgroup.kill"
    done
    for pid in $(host_processes "$1"); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    host_gone "$1" 20 || die "host '$1' still has processes 20 s after they were killed"
    # The next boot begins in new ones: what a release with systemd 257 starts in a group that was killed once is killed, too (Linux 6.18).
    for path in $(cgroup_paths "$1"); do
        [ ! -d "$path" ] || find "$path" -depth -type d -exec rmdir {} +
    done
}

# A command that is entered into a host which is going down may be stopped with it, and would be waited for for ever: where no person is
# looking it has a limit.
host_exec() {
    local name=$1 leader
    local -a limited=()
    shift
    leader=$(host_leader "$name") || die "host '$name' is not running"
    [ -t 0 ] || limited=(timeout --kill-after=5 "${GPUSTRAP_TESTBED_EXEC_LIMIT:-300}")
    "${limited[@]}" nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- \
        env -i HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

host_trust() {
    local name=$1 certificate=$2
    openssl x509 -in "$certificate" -noout || die "$certificate is not a certificate"
    cp "$certificate" "$dir/hosts/$name/root/usr/local/share/ca-certificates/$(basename "$certificate" .crt).crt"
    # It warns of the bundle of its own making, which is no single certificate.
    local said
    said=$(host_exec "$name" update-ca-certificates 2>&1) || die "$said"
}

# Every file outside what a running system writes by itself: kind, mode, owner, size, time, target,
# and the digest of its content. Two equal listings mean that nothing was touched in between.
host_listing() {
    local name=$1 root=$dir/hosts/$1/root
    shift
    local -a volatile=(proc sys dev run tmp var/tmp var/log var/lib/systemd) prune=()
    while [ $# -gt 0 ]; do
        [ "$1" = --except ] || die "listing: unknown option '$1'"
        volatile+=("${2#/}")
        shift 2
    done
    local path
    for path in "${volatile[@]}"; do
        prune+=(-path "./$path" -prune -o)
    done
    (
        cd "$root" || exit
        {
            find . "${prune[@]}" -type d -printf '%P/ %y %m %U:%G %T@\n'
            find . "${prune[@]}" ! -type d -printf '%P %y %m %U:%G %s %T@ %l\n'
            find . "${prune[@]}" -type f -print0 | xargs -0 -r -P "$(nproc)" -n 500 sha256sum |
                awk '{ digest = $1; sub(/^[^ ]+ +\.\//, ""); print $0 " sha256 " digest }'
        } | LC_ALL=C sort
    )
}

host_remove() {
    local name=$1 host=$dir/hosts/$1 lock
    lock=$(stat --format=%d:%i "$host/root")
    if [ -f "$dir/subnet" ]; then
        host_kill "$name"
    fi
    network_detach "$name"
    ! mountpoint -q "$host/root" || umount "$host/root"
    ! mountpoint -q "$host/disk" || umount "$host/disk"
    # Where nspawn was killed it leaves its marks.
    rm -f "/run/systemd/nspawn/locks/inode-$lock"
    rm -rf --one-file-system "$host" "/run/systemd/nspawn/propagate/$(netns_of "$name")"
}
