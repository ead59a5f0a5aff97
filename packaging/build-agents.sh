#!/usr/bin/env bash
# Builds the static agents: build-agents.sh [x86_64] [aarch64]   (both by default)
#
# Leaves build/agents/<arch>/{gpustrap-agent, gpustrap-agent.gz, gpustrap-agent.sha256, agent.manifest}. The first build on
# a machine fetches and builds the agent's libraries (under 5 minutes for both on 2 cores) and keeps them under
# ${XDG_CACHE_HOME:-~/.cache}/gpustrap; afterwards only the agent itself is compiled.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
declare -A pid_of

fail() { echo "build-agents: $*" >&2; exit 1; }

need() {  # COMMAND PACKAGE
    command -v "$1" > /dev/null || missing+=("$2")
}

check_tools() {
    missing=()
    need cmake cmake; need ninja ninja-build; need make make; need perl perl; need dpkg-source dpkg-dev
    need xz xz-utils; need bzip2 bzip2; need flock util-linux
    local arch
    for arch in "${archs[@]}"; do
        need "$arch-linux-gnu-g++" "g++-${arch//_/-}-linux-gnu"
    done
    [ -f /usr/include/nlohmann/json.hpp ] || missing+=(nlohmann-json3-dev)
    [ -f /usr/include/tl/expected.hpp ] || missing+=(libexpected-dev)
    [ ${#missing[@]} = 0 ] || fail "the static agent cannot be built, tools are missing. Run: sudo apt-get install -y ${missing[*]}"
}

stage() {  # ARCH WHAT LOG COMMAND...: runs it, says how long it took, shows the log only where it failed
    local arch=$1 what=$2 log=$3 begin=$SECONDS
    shift 3
    if ! "$@" > "$log" 2>&1; then
        tail -n 40 "$log" >&2
        fail "$arch: $what failed; the whole log: $log"
    fi
    printf 'agent %-8s %s (%d s)\n' "$arch" "$what" "$((SECONDS - begin))"
}

publish() {  # DIR: what the controller embeds, and what a person checks
    local agent=$1/gpustrap-agent
    "$root/packaging/pack.sh" "$agent" "$agent.gz.new"
    mv "$agent.gz.new" "$agent.gz"
    (cd "$1" && sha256sum gpustrap-agent > gpustrap-agent.sha256)
}

build_agent() {
    local arch=$1 dir=$root/build/agents/$1
    mkdir -p "$dir"
    stage "$arch" "libraries ready" "$dir/configure.log" \
        cmake -S "$root/packaging/agent" -B "$dir" -G Ninja --toolchain "$root/packaging/toolchain-$arch.cmake"
    stage "$arch" "agent compiled" "$dir/build.log" cmake --build "$dir"
    publish "$dir"
    printf 'agent %-8s %s: %d bytes, %d gzipped\n' "$arch" "${dir#"$root"/}/gpustrap-agent" \
        "$(stat -c %s "$dir/gpustrap-agent")" "$(stat -c %s "$dir/gpustrap-agent.gz")"
}

archs=("$@")
[ ${#archs[@]} -gt 0 ] || archs=(x86_64 aarch64)
for arch in "${archs[@]}"; do
    [ -f "$root/packaging/toolchain-$arch.cmake" ] || fail "no such architecture: '$arch'. There are x86_64 and aarch64."
done
check_tools

# Side by side: half of a library's build is its configure step, which uses one core.
for arch in "${archs[@]}"; do
    build_agent "$arch" &
    pid_of[$arch]=$!
done
failed=0
for arch in "${archs[@]}"; do
    wait "${pid_of[$arch]}" || failed=1
done
exit $failed
