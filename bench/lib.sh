# shellcheck shell=bash disable=SC2034,SC2154 # names that bench/run sets, and measurements use
# What the measurements share. A file bench/NAME.sh is one of them: bench/run sources this and it, and calls `measure`, which
# says each figure by `figure`. Files go to $scratch, which is gone afterwards.

bench_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$bench_dir/.." && pwd)
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

# Serves a folder to the host; $origin is its base URL.
serve_bench_files() {
    mkdir -p "$scratch/origin"
    "$repository/tests/testbed/origin.py" --root "$1" --state "$scratch/origin" --bind "${address%.*}.1" \
        >"$scratch/origin/log" 2>&1 </dev/null &
    origin_pid=$!
    local deadline=$((SECONDS + 30))
    until [ -s "$scratch/origin/http" ]; do
        [ $SECONDS -lt $deadline ] || {
            cat "$scratch/origin/log" >&2
            return 1
        }
        sleep 0.1
    done
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
