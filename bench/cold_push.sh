# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# The first command to a host that has no agent yet, over 50 ms and 20 Mbit/s: from no connection to the end of a run that changes
# nothing. The limit is a connection with one exec, and the packed agent's bytes at that bandwidth.

mbit=20

measure() {
    local agent
    agent=$repository/build/agents/$(uname -m)/gpustrap-agent
    boot_bench_host
    start_bench_relay
    bench_home
    build_bare_libssh
    copy_rsync
    printf 'name: nothing\nsteps:\n  - directory: /srv\n' >"$scratch/nothing.yaml"
    bench_relay latency 25
    bench_relay bandwidth $mbit
    $plainly up "$scratch/nothing.yaml" "$user@$relay_address" -p "$relay_port" -i "$key" -y --no-tunnel >"$scratch/up.log" 2>&1 || {
        cat "$scratch/up.log" >&2
        return 1
    }
    local take="sh -c 'gzip -dc >pushed && chmod +x pushed && ./pushed --version'"
    cat >"$scratch/pushes" <<SH
here() { ssh far "\$@"; }
case \$1 in
scp) scp -q -F $ssh_config $agent far:pushed && here ./pushed --version ;;
rsync) $rsync -z $agent far:pushed && here ./pushed --version ;;
gzip) gzip -c $agent | here $(printf %q "$take") ;;
packed) here $(printf %q "$take") <$agent.gz ;;
esac
SH
    {
        printf 'gpustrap up, no agent there\t5\t%s\n' "$plainly up $scratch/nothing.yaml $user@$relay_address -p $relay_port -i $key -y --no-tunnel"
        printf 'libssh, exec true\t5\t%s\n' "$bare_libssh $relay_address $relay_port $user $key $known_hosts true"
        printf 'libssh, exec, the packed agent\t5\t%s\n' \
            "$bare_libssh --input $agent.gz $relay_address $relay_port $user $key $known_hosts $(printf %q "$take")"
        printf 'ssh, the packed agent\t5\tsh %s packed\n' "$scratch/pushes"
        printf 'gzip | ssh\t5\tsh %s gzip\n' "$scratch/pushes"
        printf 'rsync -z; ssh\t3\tsh %s rsync\n' "$scratch/pushes"
        printf 'scp; ssh\t3\tsh %s scp\n' "$scratch/pushes"
    } >"$scratch/contestants"
    cat >"$scratch/forget" <<SH
exec "$repository/tests/testbed/testbed" exec bench rm -rf /usr/local/lib/gpustrap /home/$user/pushed
SH
    contest "$scratch/contestants" --relay "$scratch/relay" --between "sh $scratch/forget"
    local limit
    limit=$(awk -v connection="$(took 'libssh, exec true')" -v bytes="$(stat -c %s "$agent.gz")" -v mbit=$mbit \
        'BEGIN { printf "%.3f", connection + bytes * 8 / mbit / 1e6 }')
    figure "the limit: a connection, and $(stat -c %s "$agent.gz") bytes at $mbit Mbit/s" "$limit" s
    figure "gpustrap against the limit" "$(ratio "$(took 'gpustrap up, no agent there')" "$limit")" times 1.1
    figure "gpustrap against scp and ssh" "$(ratio "$(took 'gpustrap up, no agent there')" "$(took 'scp; ssh')")" times 1
}

# rsync from the host's archive, without installing it on this machine: $rsync is how it is called.
copy_rsync() {
    install_on_bench_host rsync
    mkdir "$scratch/rsync"
    # shellcheck disable=SC2016 # expanded on the host
    "$repository/tests/testbed/testbed" exec bench sh -c \
        'cp -L /usr/bin/rsync $(ldd /usr/bin/rsync | sed -n "s/.*=> \([^ ]*\).*/\1/p" | grep -v /libc.so) /srv/ && tar -C /srv -cf - .' |
        tar -C "$scratch/rsync" -xf -
    LD_LIBRARY_PATH=$scratch/rsync "$scratch/rsync/rsync" --version >/dev/null
    rsync="env LD_LIBRARY_PATH=$scratch/rsync $scratch/rsync/rsync -e 'env -u LD_LIBRARY_PATH ssh'"
}
