# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# A step that prints a million lines, 100 MB: how long until the last of them is here; and what drawing costs while a step prints.
# GPUSTRAP_BENCH_LINES=20000 tries the measurement itself: the targets are for the million.

lines_wanted=${GPUSTRAP_BENCH_LINES:-1000000}

measure() {
    boot_bench_host
    lines | "$repository/tests/testbed/testbed" exec bench sh -c 'gzip -d >/srv/lines'
    start_bench_relay
    bench_home
    build_bare_libssh
    printf 'name: lines\nsteps:\n  - command: cat /srv/lines\n' >"$scratch/lines.yaml"
    cat >"$scratch/steady.yaml" <<'YAML'
name: steady
steps:
  - command: for i in $(seq 500); do echo "line $i of a step that says what it does"; sleep 0.02; done
YAML
    race 0 near "$address" 22 3
    figure "gpustrap against libssh at RTT 0" "$(ratio "$(took 'gpustrap up --json')" "$(took 'libssh, 64 KiB reads')")" times 2
    bench_relay latency 25
    race 50 far "$relay_address" "$relay_port" 3
    figure "gpustrap at RTT 50 ms" "$(took 'gpustrap up --json')" s 1.2
    drawing
}

# Lines as logs have them: mostly alike, numbers that change, 100 bytes each.
lines() {
    awk -v lines="$lines_wanted" 'BEGIN {
        srand(7)
        for (i = 0; i < lines; ++i)
            printf "2026-11-21T10:%02d:%02d INFO trainer: epoch %03d step %07d loss %.6f accuracy %.4f lr 0.0003 gpu 0\n",
                i / 60000 % 60, i / 1000 % 60, i / 10000, i, rand(), rand()
    }' | gzip -1
}

# race RTT NAME ADDRESS PORT ROUNDS
race() {
    local rtt=$1 name=$2 at=$3 port=$4 rounds=$5 list=$scratch/contestants
    local -a relay=()
    [ "$rtt" = 0 ] || relay=(--relay "$scratch/relay")
    local up="$gpustrap up $scratch/lines.yaml $user@$at -p $port -i $key -y --no-tunnel"
    local bare="$at $port $user $key $known_hosts 'cat /srv/lines'"
    {
        printf 'gpustrap up --json\t%s\t%s --json\n' "$rounds" "$up"
        printf 'gpustrap up, on a terminal\t1\t%s %s\n' "$bench_dir/on_terminal.py" "$up"
        printf 'libssh, 64 KiB reads\t%s\t%s %s\n' "$rounds" "$bare_libssh" "$bare"
        printf 'libssh, 16 MiB reads\t%s\t%s --piece 16777216 %s\n' "$rounds" "$bare_libssh" "$bare"
        printf 'ssh cat\t%s\tssh %s cat /srv/lines\n' "$rounds" "$name"
        printf 'ssh -C cat\t%s\tssh -C %s cat /srv/lines\n' "$rounds" "$name"
        printf 'ssh gzip -1 | gzip -d\t%s\t%s\n' "$rounds" "sh -c 'ssh $name \"gzip -1 </srv/lines\" | gzip -d'"
    } >"$list"
    echo "  RTT $rtt ms"
    contest "$list" "${relay[@]}"
}

# The controller's CPU while a step prints fifty lines a second; its start and its login count, too.
drawing() {
    local at=$address
    {
        printf 'steady, on a terminal\t1\t%s %s\n' "$bench_dir/on_terminal.py" "$gpustrap up $scratch/steady.yaml $user@$at -i $key -y --no-tunnel"
        printf 'steady, --json\t1\t%s\n' "$gpustrap up $scratch/steady.yaml $user@$at -i $key -y --no-tunnel --json"
    } >"$scratch/contestants"
    echo "  fifty lines a second for ten seconds"
    contest "$scratch/contestants"
    figure "of a core, the whole command on a terminal" \
        "$(awk -v cpu="$(took 'steady, on a terminal' 4)" -v wall="$(took 'steady, on a terminal')" 'BEGIN { printf "%.1f", 100 * cpu / wall }')" % 5
}
