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
}

gpustrap_up() {
    $plainly up "$bench_dir/warm_rerun/recipe.yaml" "$user@$1" -p "$2" -i "$key" -y --no-tunnel >"$scratch/up.log" 2>&1 || {
        cat "$scratch/up.log" >&2
        return 1
    }
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
