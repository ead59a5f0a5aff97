#!/usr/bin/env bash
# Tests what is linked to run elsewhere, where nothing else is: a root with only what a case puts there. The static agent, in an empty one;
# the controller, beside nothing but a C library (controller.sh).
#
#   tests/static/run.sh [x86_64] [aarch64] [controller]     all by default: the agents of build/agents (aarch64 runs under qemu-user) and
#                                                           build/release/gpustrap
#
# Runs as root or with sudo. Everything happens in a network and mount namespace of its own.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
archs=() controllers=''
for what in "$@"; do
    if [ "$what" = controller ]; then controllers=yes; else archs+=("$what"); fi
done
[ $# -gt 0 ] || { archs=(x86_64 aarch64) controllers=yes; }
# shellcheck source=tests/static/controller.sh
. "$here/controller.sh"

# The newest and two older userlands: their C library and name service plugins are what a static program could trip over.
releases=(bullseye bookworm trixie)
userlands=${XDG_CACHE_HOME:-$HOME/.cache}/gpustrap/userlands

fetch_userlands() {  # the C library and its plugins of each release, unpacked only; kept between runs
    local release tar mirror
    # One mirror and no more: a security mirror that lags behind its own index would spoil it, and age does not matter here.
    # shellcheck disable=SC2016 # apt's placeholders
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'ORIGIN: Debian' 'LABEL: Debian' 2> /dev/null | head -n 1)
    mkdir -p "$userlands"
    for release in "${releases[@]}"; do
        tar=$userlands/$release.tar
        [ -f "$tar" ] && continue
        echo "fetching the userland of $release"
        mmdebstrap --quiet --variant=extract --include=libc6,libc-bin,libnss-myhostname,libnss-resolve,base-files \
            --dpkgopt='path-exclude=/usr/share/*' "$release" "$tar.new.tar" ${mirror:+"$mirror"} > "$tar.log" 2>&1 && mv "$tar.new.tar" "$tar" \
            || echo "the userland of $release cannot be fetched: $(tail -n 1 "$tar.log")"
    done
}

if [ "${GPUSTRAP_STATIC_TESTS_INSIDE:-}" != yes ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    for tool in unshare chroot ip python3 openssl zstd readelf mmdebstrap curl sshd ssh-keygen dpkg-deb strip; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" > /dev/null || { echo "tests/static cannot run: $tool is not installed"; exit 2; }
    done
    # Before the network is gone: the first build fetches the libraries' sources.
    [ ${#archs[@]} = 0 ] || "$repository/packaging/build-agents.sh" "${archs[@]}" || exit 2
    for arch in "${archs[@]}"; do
        cmake --build "$repository/build/agents/$arch" --target static_probe > /dev/null || exit 2
    done
    fetch_userlands
    [ -z "$controllers" ] || fetch_foreign_libc
    exec "${as_root[@]}" env GPUSTRAP_STATIC_TESTS_INSIDE=yes HOME="$HOME" XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}" \
        PATH="$PATH:/usr/sbin:/sbin" unshare --net --mount "$0" "$@"
fi

chroot=$(command -v chroot)
passed=0 failed=0 skipped=0 skips='' arch='' label=''
scratch=$(mktemp -d)
mkfifo "$scratch/hold"
exec 8<> "$scratch/hold"

stop() {
    exec 8>&-
    [ -z "${services_pid:-}" ] || { kill "$services_pid" 2> /dev/null; wait "$services_pid" 2> /dev/null; }
    if [ "$failed" = 0 ]; then rm -rf "$scratch"; else echo "kept for looking at: $scratch"; fi
}
trap stop EXIT

case_() { label="$arch: $1"; }
pass() { passed=$((passed + 1)); echo "ok    $label"; }
miss() {
    failed=$((failed + 1))
    echo "FAIL  $label: $1"
    [ ! -s "$scratch/output" ] || sed 's/^/        /' "$scratch/output"
}
skip() {
    skipped=$((skipped + 1))
    skips+="  $label: $1"$'\n'
    echo "skip  $label: $1"
}

# --- roots --------------------------------------------------------------------------------------------------------------

new_root() {  # an empty root with the two programs in it
    root=$(mktemp -d "$scratch/root.XXXXXX")
    chmod 0755 "$root"  # transfers run as a user of no rights
    mkdir -p "$root/etc/ssl/certs" "$root/tmp"
    cp "$agent" "$root/gpustrap-agent"
    cp "$probe" "$root/probe"
    [ ${#emulator[@]} = 0 ] || cp "$(command -v "${emulator[0]}")" "$root/emulator"
}

ordinary_root() {
    new_root
    echo "nameserver 127.0.0.1" > "$root/etc/resolv.conf"
    printf '127.0.0.1 localhost\n127.0.0.1 hosts.test\n' > "$root/etc/hosts"
    cp "$scratch/tls/ca.pem" "$root/etc/ssl/certs/ca-certificates.crt"
}

# Runs PROGRAM ARGS... in the root, with an empty environment. Sets status, output and seconds.
inside() {
    local program=$1
    shift
    local begin=$SECONDS
    timeout 60 env -i "$chroot" "$root" ${emulator[0]:+/emulator} "/$program" "$@" > "$scratch/output" 2>&1
    status=$?
    seconds=$((SECONDS - begin))
    output=$(cat "$scratch/output")
}

expect_success() { if [ "$status" = 0 ]; then pass; else miss "exit status $status"; fi; }
expect_output() {  # TEXT
    if [ "$status" = 0 ] && [[ $output == *"$1"* ]]; then pass; else miss "exit status $status, and '$1' was expected"; fi
}
expect_failure() {  # TEXT [SECONDS]
    if [ "$status" = 0 ]; then miss "it succeeded"
    elif [ "$status" -ge 124 ]; then miss "it crashed or hung, exit status $status"
    elif [[ $output != *"$1"* ]]; then miss "'$1' was expected in the message"
    elif [ "$seconds" -gt "${2:-60}" ]; then miss "it took $seconds s"
    else pass; fi
}

# --- cases --------------------------------------------------------------------------------------------------------------

one_file_cases() {
    local program
    for program in "$agent" "$probe"; do
        case_ "${program##*/} asks for no interpreter"
        readelf -lW "$program" > "$scratch/output"
        if grep -q INTERP "$scratch/output"; then miss "it has one"; else pass; fi
        case_ "${program##*/} needs no shared library"
        readelf -dW "$program" > "$scratch/output"
        if grep -q NEEDED "$scratch/output"; then miss "it needs some"; else pass; fi
        case_ "${program##*/} may be loaded anywhere, and its tables are read-only once it runs"
        readelf -hlW "$program" > "$scratch/output"
        if grep -q 'Type:.*DYN' "$scratch/output" && grep -q GNU_RELRO "$scratch/output"; then pass; else miss "not so"; fi
        case_ "${program##*/} has a stack nobody can execute"
        if grep GNU_STACK "$scratch/output" | grep -q 'RW '; then pass; else miss "not so"; fi
        case_ "${program##*/} names no folder of the machine it was built on"
        if grep -aoE "($HOME|$repository)/[[:print:]]*" "$program" > "$scratch/output"; then miss "it does"; else pass; fi
    done
}

name_cases() {
    ordinary_root
    case_ "a name of /etc/hosts resolves";             inside probe get https://hosts.test/; expect_output "hello from hosts.test"
    case_ "a name of the DNS resolves";                inside probe get https://dns.test/; expect_output "hello from dns.test"
    case_ "an alias of the DNS resolves";              inside probe get https://alias.test/; expect_output "hello from alias.test"
    case_ "an answer too long for UDP is fetched by TCP"; inside probe get https://big.test/; expect_output "hello from big.test"
    case_ "a name that does not exist fails at once";  inside probe get https://missing.test/; expect_failure "resolve host" 5

    echo "nameserver 127.0.0.9" > "$root/etc/resolv.conf"
    case_ "a name server that is silent fails in bounded time"; inside probe get https://dns.test/; expect_failure dns.test 15
    printf 'nameserver 127.0.0.9\nnameserver 127.0.0.1\n' > "$root/etc/resolv.conf"
    case_ "a silent first name server is passed over"; inside probe get https://dns.test/; expect_output "hello from dns.test"
    printf 'nameserver 127.0.0.1\nsearch corp.test\noptions edns0 trust-ad\n' > "$root/etc/resolv.conf"
    case_ "a search domain is tried";                  inside probe get https://searched/; expect_output "hello from searched"
    rm "$root/etc/resolv.conf"
    case_ "without resolv.conf, /etc/hosts still works"; inside probe get https://hosts.test/; expect_output "hello from hosts.test"

    ordinary_root
    echo "hosts: mymachines myhostname resolve [!UNAVAIL=return] files dns wins mdns4 sss ldap" > "$root/etc/nsswitch.conf"
    case_ "a hostile nsswitch.conf changes nothing";   inside probe get https://dns.test/; expect_output "hello from dns.test"
    case_ "threads and exceptions work in the empty root"; inside probe threads; expect_output "thrown in a thread"
}

certificate_cases() {
    local bundle
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem \
        /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /etc/ssl/cert.pem; do
        ordinary_root
        rm "$root/etc/ssl/certs/ca-certificates.crt"
        mkdir -p "$root${bundle%/*}"
        cp "$scratch/tls/ca.pem" "$root$bundle"
        case_ "certificates are checked with $bundle"; inside probe get https://dns.test/; expect_output "hello from dns.test"
    done
    ordinary_root
    case_ "a certificate for another name is refused"; inside probe get https://wrong.test/; expect_failure "wrong.test"
    cp "$scratch/tls/other.pem" "$root/etc/ssl/certs/ca-certificates.crt"
    case_ "a certificate of an unknown authority is refused"; inside probe get https://dns.test/; expect_failure "certificate"
    : > "$root/etc/ssl/certs/ca-certificates.crt"
    case_ "without any bundle the connection is refused, and what to install is named"
    inside probe get https://dns.test/; expect_failure "ca-certificates"
}

archive_cases() {
    local archive
    ordinary_root
    for archive in names.zip pax.tar gnu.tar names.tar.gz names.tar.bz2 names.tar.xz names.tar.zst; do
        cp "$scratch/archives/$archive" "$root/tmp/"
        case_ "names beyond ASCII come whole out of $archive"; inside probe unpack "/tmp/$archive"; expect_output "Bücher/日本語-🙂.txt"
    done
    head -c 150 "$scratch/archives/names.tar.xz" > "$root/tmp/cut.tar.xz"
    case_ "a truncated archive is an error"; inside probe unpack /tmp/cut.tar.xz; expect_failure cut.tar.xz
}

userland_cases() {
    local release
    for release in "${releases[@]}"; do
        case_ "on $release"
        [ -f "$userlands/$release.tar" ] || { skip "its userland cannot be fetched: $(tail -n 1 "$userlands/$release.tar.log")"; continue; }
        new_root
        tar -C "$root" -xf "$userlands/$release.tar" --exclude=./dev || { miss "the userland cannot be unpacked"; continue; }
        echo "nameserver 127.0.0.1" > "$root/etc/resolv.conf"
        echo "hosts: resolve myhostname files dns" > "$root/etc/nsswitch.conf"
        mkdir -p "$root/etc/ssl/certs"
        cp "$scratch/tls/ca.pem" "$root/etc/ssl/certs/ca-certificates.crt"
        case_ "on $release with name service plugins installed, names resolve"
        inside probe get https://dns.test/; expect_output "hello from dns.test"
        case_ "on $release threads and exceptions work"; inside probe threads; expect_output "thrown in a thread"
        case_ "on $release the agent starts";            inside gpustrap-agent --version; expect_output gpustrap-agent
        recipe_cases "on $release"
        rm -rf "$root"
    done
}

agent_cases() {
    new_root
    case_ "the agent starts in an empty root and says what it was built from"
    inside gpustrap-agent --version
    expect_output "$(grep -m 1 '^openssl ' "$build/agent.manifest")"
    ordinary_root
    recipe_cases "in the empty root"
}

recipe_cases() {  # WHERE: the whole agent, with a runner, a child for each step and a transfer
    mkdir -p "$root/dev"
    mknod -m 0666 "$root/dev/null" c 1 3  # a step's child reads it
    cat > "$root/recipe.json" << 'JSON'
{"name": "alone", "steps": [
  {"id": "motd", "file": {"path": "/srv/motd", "content": "hello\n"}},
  {"id": "names", "archive": {"url": "https://dns.test/names.tar.zst", "to": "/srv/names"}}
]}
JSON
    case_ "$1 a recipe downloads, unpacks and writes"
    inside gpustrap-agent run /recipe.json
    if [ "$status" = 0 ] && [ -f "$root/srv/motd" ] && [ -f "$root/srv/names/Bücher/日本語-🙂.txt" ]; then pass; else miss "exit status $status"; fi
    case_ "$1 the same recipe changes nothing more"
    inside gpustrap-agent run /recipe.json
    if [ "$status" = 0 ] && [ "$(grep -c '"outcome":"unchanged"' "$scratch/output")" = 2 ]; then pass; else miss "exit status $status"; fi
}

# --- the run ------------------------------------------------------------------------------------------------------------

make_certificates() {
    mkdir -p "$scratch/tls" && cd "$scratch/tls" || exit 2
    local name
    for name in ca other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=test $name" \
            -keyout $name.key -out $name.pem 2> openssl.log || { cat openssl.log; exit 2; }
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=server -keyout server.key -out server.csr 2> openssl.log
    echo "subjectAltName=DNS:dns.test,DNS:alias.test,DNS:big.test,DNS:hosts.test,DNS:searched" > names.cnf
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names.cnf -out server.crt 2> openssl.log \
        || { cat openssl.log; exit 2; }
    cat server.crt server.key > server.pem
    cd "$here" || exit 2
}

ip link set lo up || exit 2
make_certificates
mkdir -p "$scratch/archives"
python3 "$here/make_archives.py" "$scratch/archives" || exit 2
mkfifo "$scratch/ready"
python3 "$here/services.py" "$scratch/tls" "$scratch/archives" < "$scratch/hold" 8>&- > "$scratch/ready" &
services_pid=$!
read -r line < "$scratch/ready"
[ "$line" = ready ] || { echo "the test services did not start"; exit 2; }

for arch in "${archs[@]}"; do
    build=$repository/build/agents/$arch
    agent=$build/gpustrap-agent
    probe=$build/static_probe
    emulator=()
    if [ "$(uname -m)" != "$arch" ]; then
        emulator=("qemu-$arch-static")
        command -v "${emulator[0]}" > /dev/null || { echo "tests/static cannot run: ${emulator[0]} is not installed (qemu-user-static)"; exit 2; }
    fi
    one_file_cases
    name_cases
    certificate_cases
    archive_cases
    agent_cases
    userland_cases
done
[ -z "$controllers" ] || controller_cases
[ -z "$skips" ] || printf 'skipped:\n%s' "$skips"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
