# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# A rerun of twenty steps that are all done already, from no connection to the end: against what libssh needs for one `exec true`.

measure() {
    # The host has Python for the peers alone.
    boot_bench_host
    install_on_bench_host python3-apt
    start_bench_relay
    bench_home
    build_bare_libssh
    [ -n "${GPUSTRAP_BENCH_QUICK:-}" ] || install_peers ansible pyinfra
    gpustrap_up "$address" 22 # pushes the agent and does the steps
    race 0 near "$address" 22 15 3
    bench_relay latency 25
    race 50 far "$relay_address" "$relay_port" 11 1
    kept 50 "$relay_address" "$relay_port"
    bench_relay latency 100
    afar "$relay_address" "$relay_port"
    on_the_host "$address" 22
}

gpustrap_up() {
    $plainly up "$bench_dir/warm_rerun/recipe.yaml" "$user@$1" -p "$2" -i "$key" -y --no-tunnel >"$scratch/up.log" 2>&1 || {
        cat "$scratch/up.log" >&2
        return 1
    }
}

# kept RTT ADDRESS PORT: the edit-run loop, over the connection that the command before has left.
kept() {
    local rerun="env XDG_RUNTIME_DIR=$scratch/kept $plainly up $bench_dir/warm_rerun/recipe.yaml $user@$2 -p $3 -i $key -y --no-tunnel"
    mkdir -p "$scratch/kept"
    chmod 0700 "$scratch/kept"
    printf 'gpustrap up, connection kept\t11\t%s --keep 1m\n' "$rerun" >"$scratch/kept/list"
    echo "  RTT $1 ms, over a kept connection"
    contest "$scratch/kept/list" --relay "$scratch/relay"
    $rerun --keep 0 >"$scratch/up.log" 2>&1
    figure "beyond one and a half turns" \
        "$(awk -v s="$(took 'gpustrap up, connection kept')" -v rtt="$1" 'BEGIN { printf "%.0f", s * 1000 - 1.5 * rtt }')" ms 60
}

# afar ADDRESS PORT: a host on another continent.
afar() {
    local list=$scratch/afar
    printf 'gpustrap up\t7\t%s\n' "$plainly up $bench_dir/warm_rerun/recipe.yaml $user@$1 -p $2 -i $key -y --no-tunnel" >"$list"
    printf 'libssh, exec true\t7\t%s\n' "$bare_libssh $1 $2 $user $key $known_hosts true" >>"$list"
    printf 'ssh host true, curve25519\t7\t%s\n' "ssh -o KexAlgorithms=curve25519-sha256 far true" >>"$list"
    echo "  RTT 200 ms"
    contest "$list" --relay "$scratch/relay"
    figure "gpustrap against libssh at RTT 200 ms" "$(ratio "$(took 'gpustrap up')" "$(took 'libssh, exec true')")" times 1.05
}

# on_the_host ADDRESS PORT: how long the run itself took there, by its own last event; the median of nine.
on_the_host() {
    local took
    took=$(for _ in 1 2 3 4 5 6 7 8 9; do
        $plainly up "$bench_dir/warm_rerun/recipe.yaml" "$user@$1" -p "$2" -i "$key" -y --no-tunnel --json
    done | sed -n 's/.*"event":"run_finished".*"elapsed_ms":\([0-9]*\).*/\1/p' | sort -n | sed -n 5p)
    figure "the run itself, on the host, of twenty steps" "$took" ms 50
}

# race RTT NAME ADDRESS PORT ROUNDS ROUNDS_OF_THE_SLOW
race() {
    local rtt=$1 name=$2 at=$3 port=$4 rounds=$5 few=$6 here=$bench_dir/warm_rerun list=$scratch/contestants
    local -a relay=()
    [ "$rtt" = 0 ] || relay=(--relay "$scratch/relay")
    gpustrap_up "$at" "$port" # from now on it remembers what it was told
    {
        printf 'gpustrap up\t%s\t%s\n' "$rounds" "$plainly up $here/recipe.yaml $user@$at -p $port -i $key -y --no-tunnel"
        printf 'libssh, exec true\t%s\t%s\n' "$rounds" "$bare_libssh $at $port $user $key $known_hosts true"
        printf 'ssh host true\t%s\t%s\n' "$rounds" "ssh $name true"
        printf 'ssh host true, curve25519\t%s\t%s\n' "$rounds" "ssh -o KexAlgorithms=curve25519-sha256 $name true"
        printf 'ssh host sh, twenty guards\t%s\t%s\n' "$rounds" "sh -c 'ssh $name sudo sh -s <$here/guards.sh'"
        [ -z "${pyinfra:-}" ] ||
            printf 'pyinfra\t%s\t%s\n' "$few" "$pyinfra -y --ssh-user $user --ssh-port $port --ssh-key $key $at $here/deploy.py"
        if [ -n "${ansible:-}" ]; then
            printf 'Ansible, Mitogen\t%s\t%s\n' "$few" "env ANSIBLE_STRATEGY=mitogen_linear ANSIBLE_STRATEGY_PLUGINS=$mitogen $ansible -i $name, $here/playbook.yaml"
            printf 'Ansible, pipelining\t%s\t%s\n' "$few" "env ANSIBLE_PIPELINING=1 $ansible -i $name, $here/playbook.yaml"
            printf 'Ansible\t%s\t%s\n' 1 "$ansible -i $name, $here/playbook.yaml"
        fi
    } >"$list"
    echo "  RTT $rtt ms"
    contest "$list" "${relay[@]}" --between "$bench_dir/end_masters.sh $scratch/masters"
    local most=1.15
    [ "$rtt" = 0 ] || most=1.05
    figure "gpustrap against libssh at RTT $rtt ms" "$(ratio "$(took 'gpustrap up')" "$(took 'libssh, exec true')")" times "$most"
    figure "gpustrap against ssh host true" "$(ratio "$(took 'gpustrap up')" "$(took 'ssh host true')")" times 1
    [ "$rtt" = 0 ] || figure "turns" "$(took 'gpustrap up' 5)" '' "$(took 'libssh, exec true' 5)"
}
