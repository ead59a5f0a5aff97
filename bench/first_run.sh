# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# A first run of the shape of recipe d2l, 108 MB from a server behind 100 Mbit/s: against the least that its bytes, that line and what sleeps
# in it allow, against the longest chain that the run's own events have, and beside a script and Ansible, which do one thing after the other.
# What is installed is a stand-in; apt, dpkg, the archives and the transfers are real.

mbit=100 pause=3 # seconds that the driver's script and the environment's command sleep: as in package() below, and in first_run/

measure() {
    boot_bench_host
    install_on_bench_host python3-apt curl unzip
    bench_home
    make_parts
    serve_bench_files "$scratch/www"
    slow_down_origin
    [ -n "${GPUSTRAP_BENCH_QUICK:-}" ] || install_peers ansible
    local file
    for file in recipe.yaml playbook.yaml script.sh; do
        sed "s,ORIGIN,$origin,g; s,/home/ubuntu,/home/$user,g" "$bench_dir/first_run/$file" >"$scratch/$file"
    done
    forget_all >"$scratch/forget"
    local up="$gpustrap up $scratch/recipe.yaml $user@$address -i $key -y --no-tunnel"
    sh "$scratch/forget" >"$scratch/up.log" 2>&1
    $up >>"$scratch/up.log" 2>&1 || { # pushes the agent
        cat "$scratch/up.log" >&2
        return 1
    }
    {
        printf 'gpustrap up\t5\t%s\n' "$up"
        printf 'ssh host sh, a script\t3\t%s\n' "sh -c 'ssh near sh -s <$scratch/script.sh'"
        [ -z "${ansible:-}" ] || printf 'Ansible, pipelining\t3\t%s\n' "env ANSIBLE_PIPELINING=1 $ansible -i near, $scratch/playbook.yaml"
    } >"$scratch/contestants"
    sh "$scratch/forget"
    contest "$scratch/contestants" --between "sh $scratch/forget"
    sh "$scratch/forget"
    $up >"$scratch/up.log" 2>&1
    "$gpustrap" report --json >"$scratch/report"
    "$gpustrap" report | sed 's/^/    /'
    local path wall least idle
    idle=$(timed "$up") # with nothing to do: what connecting and looking take, whatever there is to fetch
    path=$(sed -n 's/.*"critical_path_ms": *\([0-9]*\).*/\1/p' "$scratch/report")
    wall=$(sed -n 's/.*"wall_ms": *\([0-9]*\).*/\1/p' "$scratch/report")
    least=$(least_ms)
    figure "gpustrap against what bytes, line and sleeps allow, $least ms" "$(ratio "$wall" "$least")" times
    figure "gpustrap up against that and a run without work, $idle ms" \
        "$(awk -v took="$(took 'gpustrap up')" -v bound="$((least + idle))" 'BEGIN { printf "%.2f", took * 1000 / bound }')" times 1.1
    figure "gpustrap against its critical path, $path ms" "$(ratio "$wall" "$path")" times 1.1
    figure "gpustrap against a script" "$(ratio "$(took 'gpustrap up')" "$(took 'ssh host sh, a script')")" times 1
    [ -z "${ansible:-}" ] || figure "gpustrap against Ansible" "$(ratio "$(took 'gpustrap up')" "$(took 'Ansible, pipelining')")" times 1
}

# timed COMMAND: the least that it takes of three times, in ms.
timed() {
    local start
    for _ in 1 2 3; do
        start=$(date +%s%N)
        $1 >"$scratch/timed.log" 2>&1
        echo $((($(date +%s%N) - start) / 1000000))
    done | sort -n | head -n 1
}

# The least that the recipe can take, in ms, whoever runs it: all bytes go over the one line; what sleeps does so behind the file that it
# needs, and the driver's behind the index, too. Unpacking, dpkg and all that a program itself needs count as nothing.
least_ms() {
    local www=$scratch/www
    bytes() { stat -c %s "$@" | awk '{ sum += $1 } END { print sum }'; }
    printf '%s %s %s\n' "$(bytes "$www"/runtime.tar.gz "$www"/notebooks.zip "$www"/weights.bin "$www"/repo/*)" "$(bytes "$www/runtime.tar.gz")" \
        "$(bytes "$www"/repo/Packages "$www"/repo/Release "$www"/repo/stand-in-driver_1.0.deb)" |
        awk -v mbit=$mbit -v pause=$pause '{
            least = $1 * 8 / mbit / 1000
            for (i = 2; i <= 3; i++) if ((chain = $i * 8 / mbit / 1000 + pause * 1000) > least) least = chain
            printf "%d", least
        }'
}

# $scratch/www: two packages with their index, two archives of a thousand files each, and a file. None of it packs.
make_parts() {
    local www=$scratch/www
    mkdir -p "$www/repo" "$scratch/parts/runtime" "$scratch/parts/notebooks"
    split -b 30000 --additional-suffix=.part -a 4 <(head -c 30000000 /dev/urandom) "$scratch/parts/runtime/"
    split -b 30000 --additional-suffix=.ipynb -a 4 <(head -c 30000000 /dev/urandom) "$scratch/parts/notebooks/"
    tar -C "$scratch/parts/runtime" -czf "$www/runtime.tar.gz" .
    (cd "$scratch/parts/notebooks" && python3 -m zipfile -c "$www/notebooks.zip" ./*)
    head -c 30000000 /dev/urandom >"$www/weights.bin"
    package driver 8000000 "sleep $pause"
    package tools 10000000 true
    (cd "$www" && dpkg-scanpackages --multiversion repo >repo/Packages 2>"$scratch/scan.log")
    {
        printf 'Origin: Stand-in\nLabel: Stand-in\nDate: %s\nSHA256:\n' "$(LC_ALL=C date -R -u)"
        printf ' %s %s Packages\n' "$(sha256sum "$www/repo/Packages" | cut -c1-64)" "$(stat -c %s "$www/repo/Packages")"
    } >"$www/repo/Release"
}

# package NAME BYTES SCRIPT: the script runs once it is unpacked.
package() {
    local folder=$scratch/parts/stand-in-$1
    mkdir -p "$folder/DEBIAN" "$folder/opt"
    printf 'Package: stand-in-%s\nVersion: 1.0\nArchitecture: all\nMaintainer: A bench <bench@example.org>\nDescription: stand-in\n' "$1" \
        >"$folder/DEBIAN/control"
    printf '#!/bin/sh\n%s\n' "$3" >"$folder/DEBIAN/postinst"
    chmod 0755 "$folder/DEBIAN/postinst"
    head -c "$2" /dev/urandom >"$folder/opt/stand-in-$1"
    dpkg-deb --root-owner-group --build -Znone "$folder" "$scratch/www/repo/stand-in-$1_1.0.deb" >/dev/null
}

# $origin is behind a link that all transfers share.
slow_down_origin() {
    local through
    relay_to "${origin#http://}" --bind "${address%.*}.1"
    through=$(<"$scratch/relay/address")
    bench_relay bandwidth $mbit
    origin=http://$through
    "$repository/tests/testbed/testbed" exec bench sh -c \
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] $origin repo/' >/etc/apt/sources.list"
}

# What makes the host as it was before, but for the agent.
forget_all() {
    cat <<SH
exec "$repository/tests/testbed/testbed" exec bench sh -c 'dpkg --purge stand-in-driver stand-in-tools 2>/dev/null
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/lib/gpustrap/apt-updated
    cd /home/$user && rm -rf runtime* notebooks* weights.bin .cache/gpustrap .local/state/gpustrap; sync' >/dev/null 2>&1 </dev/null
SH
}
