#!/usr/bin/env bash
# Packs what ./dev build left into an archive for users: dist.sh
#
# Leaves build/package/gpustrap-<version>-linux-<arch>.tar.gz and its .sha256: the program, the agents by themselves (for image
# builds and cloud-init), what each was built from, the manual page, completions, the testbed, LICENSE, the licences of what is linked in, README
# and the digest of every file; and gpustrap-<version>-sources.tar, which is to be published beside it (see third-party.sh). The
# same commit packed twice on one machine gives the same archive. What was packed is unpacked and tried before it counts.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { echo "dist: $*" >&2; exit 1; }

version=$(sed -n 's/^project(gpustrap VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
[ -n "$version" ] || fail "CMakeLists.txt names no version"
name=gpustrap-$version-linux-$(uname -m)
out=$root/build/package
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

collect() {  # DIR: everything that goes into the archive
    local arch
    mkdir -p "$1/agents"
    for file in build/release/gpustrap LICENSE README.md docs/recipes.md agent/protocol/PROTOCOL.md; do
        [ -f "$root/$file" ] || fail "$file is missing. Run ./dev build first."
        cp "$root/$file" "$1/"
    done
    strip "$1/gpustrap"
    mkdir -p "$1/share/man/man1" "$1/share/bash-completion/completions" "$1/share/zsh/site-functions" "$1/share/fish/vendor_completions.d"
    mkdir -p "$1/share/gpustrap/testbed" # what `recipe test` boots its hosts with
    for file in testbed base_root.sh network.sh gpus.sh host.sh; do cp "$root/tests/testbed/$file" "$1/share/gpustrap/testbed/"; done
    cp "$root/recipes/compat.yaml" "$1/share/gpustrap/testbed/"
    "$root/build/release/gpustrap" man > "$1/share/man/man1/gpustrap.1"
    "$root/build/release/gpustrap" completion bash > "$1/share/bash-completion/completions/gpustrap"
    "$root/build/release/gpustrap" completion zsh > "$1/share/zsh/site-functions/_gpustrap"
    "$root/build/release/gpustrap" completion fish > "$1/share/fish/vendor_completions.d/gpustrap.fish"
    for arch in x86_64 aarch64; do
        cp "$root/build/agents/$arch/gpustrap-agent" "$1/agents/gpustrap-agent-$arch"
        cp "$root/build/agents/$arch/agent.manifest" "$1/agents/gpustrap-agent-$arch.manifest"
    done
    "$1/gpustrap" version > "$1/gpustrap.manifest"
    "$root/packaging/third-party.sh" licences "$1"/gpustrap.manifest "$1"/agents/*.manifest > "$1/THIRD-PARTY-LICENCES"
    find "$1" -type f -exec chmod 0644 {} +
    find "$1" -type d -exec chmod 0755 {} +
    chmod 0755 "$1/gpustrap" "$1/share/gpustrap/testbed/testbed" "$1"/agents/gpustrap-agent-x86_64 "$1"/agents/gpustrap-agent-aarch64
    (cd "$1" && find . -type f ! -name SHA256SUMS -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum) > "$work/sums"
    mv "$work/sums" "$1/SHA256SUMS"
    chmod 0644 "$1/SHA256SUMS"
}

tar_of() {  # DIR
    local when
    when=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2> /dev/null || echo 0)}
    tar -C "$(dirname "$1")" --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner --format=gnu -cf - "$(basename "$1")"
}

# The program in the archive starts, is the version it says, and carries exactly the agents that lie beside it.
try_archive() {  # ARCHIVE
    local said arch digest word
    mkdir "$work/tried"
    tar -C "$work/tried" -xzf "$1"
    cd "$work/tried/$name"
    sha256sum --quiet --check SHA256SUMS || fail "the archive's files do not match its own SHA256SUMS"
    said=$(./gpustrap version) || fail "the packed program does not start"
    [[ $said == *"$version"* ]] || fail "the packed program calls itself: $said"
    [[ $said == *$'\nlibssh '* ]] || fail "the packed program is not one file, but linked to this machine's libraries. Run ./dev build."
    for word in "GNU LESSER GENERAL PUBLIC LICENSE" Adamantiadis OpenSSL yamlcpp "GNU C Library"; do
        grep -q "$word" THIRD-PARTY-LICENCES || fail "THIRD-PARTY-LICENCES says nothing of: $word"
    done
    for arch in x86_64 aarch64; do
        digest=$(sha256sum < "agents/gpustrap-agent-$arch" | cut -c1-16) # as many as `version` shows
        [[ $said == *"$digest"* ]] || fail "the packed program carries another $arch agent than the archive. Run ./dev build. It says: $said"
    done
    share/gpustrap/testbed/testbed help | grep -q "^usage: testbed" || fail "the packed testbed does not start"
    mandoc -Tlint -Wwarning share/man/man1/gpustrap.1 || fail "the manual page has mistakes"
    "agents/gpustrap-agent-$(uname -m)" --version | grep -q "^gpustrap-agent $version\$" || fail "the packed agent does not start"
}

mkdir -p "$out"
collect "$work/$name"
tar_of "$work/$name" | gzip -9 -n > "$work/$name.tar.gz"
sources=gpustrap-$version-sources
"$root/packaging/third-party.sh" sources "$work/$sources" "$work/$name"/gpustrap.manifest "$work/$name"/agents/*.manifest
tar_of "$work/$sources" > "$work/$sources.tar" # what is in it is packed already
try_archive "$work/$name.tar.gz"
cd "$out"
mv "$work/$sources.tar" "$sources.tar"
sha256sum "$sources.tar" > "$sources.tar.sha256"
mv "$work/$name.tar.gz" "$name.tar.gz"
sha256sum "$name.tar.gz" > "$name.tar.gz.sha256"
for file in "$name.tar.gz" "$sources.tar"; do
    printf 'build/package/%s: %d bytes, sha256 %s\n' "$file" "$(stat -c %s "$file")" "$(cut -d' ' -f1 "$file.sha256")"
done
