# shellcheck shell=bash disable=SC2034,SC2154 # names that bench/run sets, and measurements use
# What the measurements share. A file bench/NAME.sh is one of them: bench/run sources this and it, and calls `measure`, which
# says each figure by `figure`. Files go to $scratch, which is gone afterwards.

bench_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$bench_dir/.." && pwd)
gpustrap=${GPUSTRAP_BIN:-$repository/build/release}/gpustrap
missed=0 # figures beyond their target

# figure WHAT VALUE UNIT [MOST]: MOST is the target, in the same unit.
figure() {
    local verdict=''
    if [ -n "${4:-}" ]; then
        verdict="target ≤ $4"
        awk -v value="$2" -v most="$4" 'BEGIN { exit !(value <= most) }' || {
            verdict+="  MISSED"
            missed=$((missed + 1))
        }
    fi
    printf '  %-58s %9s %-4s %s\n' "$1" "$2" "$3" "$verdict"
}

ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# contest FILE [OPTION…]: runs the contestants of FILE (see contest.py), shows the table and keeps it as $scratch/table.
contest() {
    local file=$1
    shift
    "$bench_dir/contest.py" "$@" "$file" >"$scratch/table"
    printf '  %-46s %9s %9s %9s %6s %9s %9s\n' '' 'median s' 'least s' 'CPU s' turns 'KB up' 'KB down'
    awk -F '\t' '{ printf "  %-46s %9s %9s %9s %6s %9s %9s\n", $1, $2, $3, $4, $5, $6, $7 }' "$scratch/table"
}

# took NAME [COLUMN]: a cell of the last contest's table; 2 median, 3 least, 4 CPU, 5 turns, 6 KB up, 7 KB down.
took() { awk -F '\t' -v name="$1" -v column="${2:-2}" '$1 == name { print $column }' "$scratch/table"; }

# A host to measure on: $host is user@address, $address its address, $key its key.
boot_bench_host() {
    local name value
    GPUSTRAP_TESTBED_DIR=$(mktemp -d /var/tmp/gpustrap-bench.XXXXXX)
    export GPUSTRAP_TESTBED_DIR
    while IFS='=' read -r name value; do
        case $name in
        address) address=$value ;;
        user) user=$value ;;
        key) key=$value ;;
        esac
    done < <("$repository/tests/testbed/testbed" boot bench)
    [ -n "${address:-}" ] || {
        echo "the host to measure on did not boot" >&2
        return 1
    }
    host=$user@$address
}

# install_on_bench_host PACKAGE…: from the host's archive, what peers need there.
install_on_bench_host() {
    "$repository/tests/testbed/testbed" exec bench sh -c "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $*" \
        >"$scratch/install.log" 2>&1 || {
        cat "$scratch/install.log" >&2
        return 1
    }
}

# Keeps the caller's settings out of the measurement, and the measurement out of them. ssh takes the home from the password file, so
# the peers find their settings behind a wrapper of one exec. $ssh_config knows the hosts `near` (the host itself) and, once a relay is
# there, `far` (the host through it). $plainly is how gpustrap is called: it asks ssh for a configuration only where the account has one,
# and then by that wrapper, too.
bench_home() {
    local ssh
    ssh=$(command -v ssh)
    unset SSH_AUTH_SOCK XDG_CONFIG_HOME XDG_STATE_HOME XDG_DATA_HOME
    real_home=$HOME
    ssh_config=$scratch/home/ssh_config known_hosts=$scratch/home/.ssh/known_hosts
    plainly="env PATH=$PATH $gpustrap"
    [ ! -e "$(getent passwd "$(id -u)" | cut -d: -f6)/.ssh/config" ] || plainly=$gpustrap
    mkdir -p "$scratch/home/path" "$scratch/home/.ssh"
    export HOME=$scratch/home XDG_CACHE_HOME=${XDG_CACHE_HOME:-$real_home/.cache}
    printf '#!/bin/sh\nexec %s -F %s "$@"\n' "$ssh" "$ssh_config" >"$scratch/home/path/ssh"
    chmod +x "$scratch/home/path/ssh"
    cat >"$ssh_config" <<SSH
Host near
    HostName $address
Host far
    HostName ${relay_address:-127.0.0.1}
    Port ${relay_port:-22}
Host *
    User $user
    IdentityFile $key
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile $known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
SSH
    ssh-keyscan -t ed25519 "$address" 2>/dev/null >"$known_hosts"
    [ -z "${relay_port:-}" ] || ssh-keyscan -t ed25519 -p "$relay_port" "$relay_address" 2>/dev/null >>"$known_hosts"
    export PATH=$scratch/home/path:$PATH
}

# The way to the host through a relay: $relay_address and $relay_port.
start_bench_relay() {
    relay_to "$address:22"
    IFS=: read -r relay_address relay_port <"$scratch/relay/address"
}

# relay_to ADDRESS:PORT [OPTION…]: its own address is in $scratch/relay/address.
relay_to() {
    mkdir -p "$scratch/relay"
    "$repository/tests/testbed/relay.py" --to "$@" --state "$scratch/relay" >/dev/null 2>&1 </dev/null &
    relay_pid=$!
    await_file "$scratch/relay/address" "the relay did not start"
}

# await_file FILE WORDS: until it has something in it.
await_file() {
    local deadline=$((SECONDS + 30))
    until [ -s "$1" ]; do
        [ $SECONDS -lt $deadline ] || {
            echo "$2" >&2
            return 1
        }
        sleep 0.1
    done
}

bench_relay() { "$repository/tests/testbed/relay.py" --state "$scratch/relay" "$@"; }

# The least that SSH can cost, built with this machine's libssh: $bare_libssh.
build_bare_libssh() {
    bare_libssh=$scratch/bare_libssh
    # shellcheck disable=SC2046 # words
    cc -O2 -o "$bare_libssh" "$bench_dir/bare_libssh.c" $(pkg-config --cflags --libs libssh)
}

# Serves a folder to the host; $origin is its base URL.
serve_bench_files() {
    mkdir -p "$scratch/origin"
    "$repository/tests/testbed/origin.py" --root "$1" --state "$scratch/origin" --bind "${address%.*}.1" \
        >"$scratch/origin/log" 2>&1 </dev/null &
    origin_pid=$!
    await_file "$scratch/origin/http" "the origin did not start" || {
        cat "$scratch/origin/log" >&2
        return 1
    }
    origin=$(<"$scratch/origin/http")
}

bench_over() {
    local pid
    for pid in "${origin_pid:-}" "${relay_pid:-}"; do
        [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    done
    [ -z "${GPUSTRAP_TESTBED_DIR:-}" ] || "$repository/tests/testbed/testbed" down
    rm -rf "$scratch"
}

# install_peers [ansible] [pyinfra]: from the Python package index, into $scratch. $ansible is how its ansible-playbook is called, $mitogen the folder of
# Mitogen's strategies for it, $pyinfra how that is called. Their settings name the hosts `near` and `far`, without one connection kept for longer
# than one run.
install_peers() {
    local -a packages=()
    local peer
    for peer in "$@"; do
        mapfile -t -O "${#packages[@]}" packages < <(sed -n "s/^$peer: //p" "$bench_dir/peers.txt" | xargs -n 1)
    done
    HOME=$real_home python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action ignore \
        --target "$scratch/peers" "${packages[@]}" >"$scratch/peers.log" 2>&1 || {
        cat "$scratch/peers.log" >&2
        return 1
    }
    mkdir -p "$scratch/masters"
    if [[ " $* " == *" ansible "* ]]; then
        ansible="env PYTHONPATH=$scratch/peers $scratch/peers/bin/ansible-playbook"
        mitogen=$scratch/peers/ansible_mitogen/plugins/strategy
        export ANSIBLE_SSH_COMMON_ARGS="-F $ssh_config" ANSIBLE_SSH_CONTROL_PATH_DIR=$scratch/masters ANSIBLE_NOCOWS=1
        export ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3 ANSIBLE_LOCAL_TEMP=$scratch/ansible
    fi
    [[ " $* " != *" pyinfra "* ]] || pyinfra="env PYTHONPATH=$scratch/peers $scratch/peers/bin/pyinfra"
}
