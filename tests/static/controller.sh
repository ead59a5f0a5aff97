# shellcheck shell=bash disable=SC2154 # scratch, repository and the like are run.sh's
# The controller as one file: what it asks of a machine, and that it works where nothing else is. Sourced by run.sh.

# What a machine must have: the C library's own files and nothing else. Built on Debian 12 it is content with one as old as Ubuntu 22.04's, which
# is a promise (docs/dependencies.md); built elsewhere, with one as old as that machine's.
allowed_libraries='libc.so.6 libm.so.6 ld-linux-x86-64.so.2 ld-linux-aarch64.so.1'
# shellcheck source=/dev/null
if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ]; then oldest_glibc=2.35; else oldest_glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2); fi

# The C library of another distribution, as it was released: pinned, for its index is signed by keys that need not be here.
ubuntu_libc=http://archive.ubuntu.com/ubuntu/pool/main/g/glibc
declare -A foreign_libc=(
    [ubuntu-22.04]="libc6_2.35-0ubuntu3_amd64.deb ea9a27e0ebdd0cfc9c750d94f8074f3a35d1f97dcc77ae04c370fb498a6b6db2"
    [ubuntu-24.04]="libc6_2.39-0ubuntu8_amd64.deb af36c7ac770770fe3d3c10e85d6bc538e76e57570ba7db7d397fb9f654783ef3"
)

fetch_foreign_libc() {
    local name file digest
    mkdir -p "$userlands"
    for name in "${!foreign_libc[@]}"; do
        read -r file digest <<<"${foreign_libc[$name]}"
        [ -f "$userlands/$file" ] && continue
        echo "fetching the C library of $name"
        curl -fsS --retry 3 -o "$userlands/$file.new" "$ubuntu_libc/$file" 2> "$userlands/$file.log" &&
            echo "$digest  $userlands/$file.new" | sha256sum --quiet --check - 2>> "$userlands/$file.log" &&
            mv "$userlands/$file.new" "$userlands/$file" ||
            echo "the C library of $name cannot be fetched: $(tail -n 1 "$userlands/$file.log")"
    done
}

is_as_new() { [ "$(printf '%s\n' "$1" "$2" | sort -V | tail -n 1)" = "$1" ]; }  # VERSION THAN

what_it_asks_cases() {
    local needed extra newest
    needed=$(readelf -dW "$controller" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    readelf -dW "$controller" > "$scratch/output"
    case_ "it needs the C library, and nothing else"
    extra=$(comm -23 <(sort <<<"$needed") <(tr ' ' '\n' <<<"$allowed_libraries" | sort))
    if [ -n "$needed" ] && [ -z "$extra" ]; then pass; else miss "it needs: ${extra:-nothing at all}"; fi
    case_ "it looks for libraries in no folder of its own"
    if grep -qE 'RPATH|RUNPATH' "$scratch/output"; then miss "it does"; else pass; fi
    case_ "its tables are read-only once it runs, and it may be loaded anywhere"
    readelf -hlW "$controller" >> "$scratch/output"
    if grep -q 'Type:.*DYN' "$scratch/output" && grep -q GNU_RELRO "$scratch/output" && grep -q BIND_NOW "$scratch/output"; then pass; else miss "not so"; fi
    case_ "it has a stack nobody can execute"
    if grep GNU_STACK "$scratch/output" | grep -q 'RW '; then pass; else miss "not so"; fi
    case_ "it asks for no C library newer than $oldest_glibc"
    readelf -VW "$controller" > "$scratch/output"
    newest=$(grep -oE 'GLIBC_[0-9.]+' "$scratch/output" | cut -d_ -f2 | sort -u -V | tail -n 1)
    if [ -n "$newest" ] && is_as_new "$oldest_glibc" "$newest" && ! grep -qE 'GLIBCXX|CXXABI|GLIBC_ABI' "$scratch/output"; then pass
    else miss "it asks for ${newest:-nothing}"; fi
    case_ "it names no folder of the machine it was built on"
    if grep -aoE "($HOME/\\.cache|$repository)/[[:print:]]*" "$controller" > "$scratch/output"; then miss "it does"; else pass; fi
}

# An SSH server of the test's own, on loopback in this network namespace; what is said to it only looks.
start_ssh_server() {
    local kind
    ssh=$scratch/ssh
    mkdir -p "$ssh" /run/sshd
    # Keys as people have them: of today, of a cloud, and in the form that other programs write.
    for kind in host ed25519; do ssh-keygen -q -t ed25519 -N '' -f "$ssh/$kind"; done
    ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -f "$ssh/rsa_pem"
    ssh-keygen -q -t ecdsa -b 384 -m PKCS8 -N '' -f "$ssh/ecdsa_pkcs8"
    cat "$ssh"/*.pub > "$ssh/authorized_keys"
    cat > "$ssh/config" << CONFIG
ListenAddress 127.0.0.1:$ssh_port
HostKey $ssh/host
AuthorizedKeysFile $ssh/authorized_keys
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin yes
PidFile $ssh/pid
LogLevel VERBOSE
CONFIG
    "$(command -v sshd)" -f "$ssh/config" -E "$ssh/log" || { cat "$ssh/log"; exit 2; }
    local deadline=$((SECONDS + 20))
    until [ -s "$ssh/pid" ]; do
        [ $SECONDS -lt $deadline ] || { cat "$ssh/log"; exit 2; }
        sleep 0.1
    done
}

stop_ssh_server() {
    local pid
    pid=$(cat "$ssh/pid") && kill "$pid"
}

# What ROOT needs beside a C library: the controller, a home, and a name that resolves there alone.
furnish() {
    mkdir -p "$1/etc" "$1/home/.ssh" "$1/tmp" "$1/dev"
    [ -e "$1/dev/null" ] || mknod -m 0666 "$1/dev/null" c 1 3
    cp "$controller" "$1/gpustrap"
    echo 'root:x:0:0:root:/home:/bin/sh' > "$1/etc/passwd"
    printf '127.0.0.1 localhost\n127.0.0.1 lab.test\n' > "$1/etc/hosts"
    echo 'hosts: files' > "$1/etc/nsswitch.conf"
    cp "$ssh"/{ed25519,rsa_pem,ecdsa_pkcs8} "$1/home/.ssh/"
    printf '[lab.test]:%s %s\n' "$ssh_port" "$(cut -d' ' -f1,2 "$ssh/host.pub")" > "$1/home/.ssh/known_hosts"
}

controls() {  # ARGS...: the controller in the root, with nothing but a home
    timeout 60 env -i HOME=/home "$chroot" "$root" /gpustrap "$@" > "$scratch/output" 2>&1 < /dev/null
    status=$?
    output=$(cat "$scratch/output")
}

works_there_cases() {  # WHERE
    local key glibc
    glibc=$(grep -aohE 'GNU C Library .* version [0-9.]+[0-9]' "$root"/lib/*/libc.so.6 "$root"/lib/*/libc-[0-9]*.so 2> /dev/null | grep -oE '[0-9.]+$')
    if ! is_as_new "${glibc:-0}" "$oldest_glibc"; then
        [ "$1" = "on bullseye" ] || { case_ "$1"; skip "its C library, ${glibc:-none}, is older than that of the machine which built this"; }
        return
    fi
    furnish "$root"
    case_ "$1 it starts, and says what it was made of"
    controls version
    expect_output "$(grep -m 1 '^libssh ' "$manifest")"
    case_ "$1 it knows its recipes"
    controls recipe list
    expect_output d2l
    for key in ed25519 rsa_pem ecdsa_pkcs8; do
        case_ "$1 it finds a host by its name, checks the key, and logs in ($key)"
        : > "$ssh/log"
        controls status root@lab.test -p "$ssh_port" -i "/home/.ssh/$key"
        cat "$ssh/log" >> "$scratch/output"
        if [ "$status" = 0 ] && grep -q "Accepted publickey for root" "$ssh/log"; then pass; else miss "exit status $status"; fi
    done
}

# The server is services.py's; its names resolve by DNS, as the C library asks it.
certificate_places_cases() {  # WHERE
    local bundle
    cat > "$root/home/lab.yaml" << 'YAML'
name: lab
description: asks one server
steps:
  - download: { url: "https://dns.test/tool.tgz", to: ~/tool.tgz, sha256: 0000000000000000000000000000000000000000000000000000000000000000 }
YAML
    echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
    echo 'nameserver 127.0.0.1' > "$root/etc/resolv.conf"
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        mkdir -p "$root${bundle%/*}"
        cp "$scratch/tls/ca.pem" "$root$bundle"
        case_ "$1 it checks a server's certificate with $bundle"
        controls recipe lint --upstream /home/lab.yaml
        if [[ $output != *upstream-silent* ]] && [ "$status" = 0 ]; then pass; else miss "exit status $status"; fi
        rm "$root$bundle"
    done
    case_ "$1 it trusts no server where nobody is trusted, and says why"
    controls recipe lint --upstream /home/lab.yaml
    if [[ $output == *"no certificate authorities"*upstream-silent* ]]; then pass; else miss "exit status $status"; fi
}

controller_cases() {
    local name file digest folder
    arch=controller
    controller=$scratch/gpustrap manifest=$scratch/manifest ssh_port=2222
    # As it is packed: what debuggers want is not part of a release.
    strip -o "$controller" "$repository/build/release/gpustrap" || { case_ "it is there"; miss "run ./dev build first"; return; }
    "$controller" version > "$manifest"
    what_it_asks_cases
    start_ssh_server
    for name in "${releases[@]}"; do
        case_ "on $name"
        [ -f "$userlands/$name.tar" ] || { skip "its userland cannot be fetched: $(tail -n 1 "$userlands/$name.tar.log")"; continue; }
        root=$(mktemp -d "$scratch/root.XXXXXX")
        tar -C "$root" -xf "$userlands/$name.tar" --exclude=./dev || { miss "the userland cannot be unpacked"; continue; }
        works_there_cases "on $name"
        rm -rf "$root"
    done
    for name in "${!foreign_libc[@]}"; do
        case_ "on $name"
        [ "$(uname -m)" = x86_64 ] || { skip "its C library is pinned for x86_64 alone"; continue; }
        read -r file digest <<< "${foreign_libc[$name]}"
        [ -f "$userlands/$file" ] || { skip "its C library cannot be fetched: $(tail -n 1 "$userlands/$file.log")"; continue; }
        root=$(mktemp -d "$scratch/root.XXXXXX")
        dpkg-deb -x "$userlands/$file" "$root"
        for folder in lib lib64; do [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"; done
        works_there_cases "in an empty root with the C library of $name"
        [ "$name" != ubuntu-24.04 ] || certificate_places_cases "in an empty root with the C library of $name"
        rm -rf "$root"
    done
    stop_ssh_server
}
