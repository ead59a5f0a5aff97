# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# The same file of 25 MB for four hosts, from a server behind 50 Mbit/s: with `fetch: shared`, without, and by hand: fetched here, and then
# sent to all hosts at once over ssh. What counts are the bytes that the server had to send; the seconds follow from them as long as the
# hosts and this machine are nearer to each other than to it.

mbit=50 size=25000000

measure() {
    boot_bench_host
    local name hosts=("$address")
    for name in second third fourth; do
        hosts+=("$("$repository/tests/testbed/testbed" boot "$name" | sed -n 's/^address=//p')")
    done
    bench_home
    mkdir -p "$scratch/www"
    head -c $size /dev/urandom >"$scratch/www/weights"
    serve_bench_files "$scratch/www"
    relay_to "${origin#http://}" --bind "${address%.*}.1"
    bench_relay bandwidth $mbit
    recipe each '' >"$scratch/each.yaml"
    recipe shared 'fetch: shared,' >"$scratch/shared.yaml"
    printf 'user: %s\nkey: %s\nhosts:\n' "$user" "$key" >"$scratch/hosts.yaml"
    for name in "${!hosts[@]}"; do printf '  host%s: %s\n' "$name" "${hosts[$name]}" >>"$scratch/hosts.yaml"; done
    local fleet="$gpustrap up -f $scratch/hosts.yaml -y --accept-new-host-key"
    forget_weights
    # Pushes the agent.
    $fleet "$scratch/shared.yaml" >"$scratch/up.log" 2>&1 || {
        cat "$scratch/up.log" >&2
        return 1
    }
    once each "$fleet $scratch/each.yaml"
    once shared "$fleet $scratch/shared.yaml"
    ssh-keyscan -t ed25519 "${hosts[@]}" 2>/dev/null >>"$known_hosts"
    once by_hand "by_hand ${hosts[*]}"
    figure "bytes of the server with fetch: shared, for each of the file" "$(ratio "$sent_shared" $size)" times 1.1
    figure "bytes of the server without" "$(ratio "$sent_each" $size)" times
    figure "seconds with fetch: shared against without" "$(ratio "$took_shared" "$took_each")" times
    figure "seconds with fetch: shared against curl here, then ssh to all" "$(ratio "$took_shared" "$took_by_hand")" times 1.1
}

# by_hand HOST…
by_hand() {
    local name pids=()
    curl -sSf -o "$scratch/copy" "http://$(<"$scratch/relay/address")/weights" || return 1
    for name in "$@"; do
        ssh "$name" 'cat >weights' <"$scratch/copy" &
        pids+=($!)
    done
    for name in "${pids[@]}"; do wait "$name" || return 1; done
}

# once NAME COMMAND: $sent_NAME bytes of the server, $took_NAME milliseconds.
once() {
    local before begin
    forget_weights
    before=$(bytes_down)
    begin=$(date +%s%3N)
    $2 >"$scratch/$1.log" 2>&1 || {
        cat "$scratch/$1.log" >&2
        return 1
    }
    declare -g "took_$1=$(($(date +%s%3N) - begin))" "sent_$1=$(($(bytes_down) - before))"
}

bytes_down() { bench_relay stats | python3 -c 'import json, sys; print(json.load(sys.stdin)["down"])'; }

forget_weights() {
    local name
    for name in bench second third fourth; do "$repository/tests/testbed/testbed" exec "$name" rm -f /srv/weights "/home/$user/weights" </dev/null; done
}

# recipe NAME FIELDS
recipe() {
    local at
    at=http://$(<"$scratch/relay/address")
    printf 'name: %s\nsteps:\n  - as: root\n    download: { url: "%s/weights", to: /srv/weights, %s sha256: %s }\n' "$1" "$at" "$2" \
        "$(sha256sum "$scratch/www/weights" | cut -c1-64)"
}
