# shellcheck shell=bash disable=SC2154 # host, origin and the like come from lib.sh
# What the agent costs a host and the wire: its compressed size, its start, its memory while it works.

measure() {
    size_figures
    start_figures
    memory_figures
}

size_figures() {
    local arch
    for arch in x86_64 aarch64; do
        figure "$arch agent on the wire, gzip format" \
            "$(awk -v bytes="$(stat -c %s "$repository/build/agents/$arch/gpustrap-agent.gz")" 'BEGIN { printf "%.2f", bytes / 1048576 }')" MiB 2.3
    done
}

start_figures() {
    local name median agent='' nothing='' python=''
    while read -r name median; do
        case $name in
        agent) agent=$median ;;
        nothing) nothing=$median ;;
        python) python=$median ;;
        esac
    done < <("$bench_dir/start_times.py" "$repository/build/release/gpustrap-agent" 200)
    figure "start to hello, median of 200" "$agent" ms 5
    figure "  /bin/true, start to exit, interleaved with it" "$nothing" ms
    figure "  python3 -c 'print()', start to its line, interleaved with it" "$python" ms
    figure "  the agent against /bin/true" "$(ratio "$agent" "$nothing")" times
    figure "  the agent against python3" "$(ratio "$agent" "$python")" times
}

# A run that fetches, hashes and unpacks at once is the most memory the agent needs.
memory_figures() {
    local name value largest='' together=''
    boot_bench_host
    mkdir -p "$scratch/files/tree"
    head -c 128M /dev/urandom >"$scratch/files/blob"
    head -c 64M /dev/urandom >"$scratch/files/tree/noise"
    seq 10000000 >"$scratch/files/tree/numbers"
    tar -C "$scratch/files" -cf "$scratch/files/tree.tar.xz" --use-compress-program='xz -0' tree
    serve_bench_files "$scratch/files"
    cat >"$scratch/bench.yaml" <<RECIPE
name: bench
steps:
  - apt: { update: true, packages: [less] }
  - id: blob
    download: { url: "$origin/blob", to: /srv/blob }
  - id: tree
    archive: { url: "$origin/tree.tar.xz", to: /srv/tree }
RECIPE
    coproc WATCH { "$bench_dir/watch_memory.py" agent-; }
    "$repository/build/release/gpustrap" up "$scratch/bench.yaml" "$host" -i "$key" --accept-new-host-key -y --no-tunnel \
        >"$scratch/up.log" 2>&1 || {
        cat "$scratch/up.log" >&2
        return 1
    }
    echo stop >&"${WATCH[1]}"
    while read -r name value; do
        case $name in
        largest) largest=$value ;;
        together) together=$value ;;
        esac
    done <&"${WATCH[0]}"
    figure "largest process of a run with apt, download and archive" "$largest" MiB 12
    figure "all of its processes together, proportional" "$together" MiB 12
}
