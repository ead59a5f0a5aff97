#!/bin/sh
# gpustrap @VERSION@ and the recipe @NAME@, for Linux on @ARCH@. As root: sh THIS-FILE [--login-user USER]
# It may be run again: what is as it should be is left alone. `gpustrap attach HOST` shows the run, and `gpustrap up` takes it from there.
# Behind the last line of this text come the packed agent and the recipe.
set -eu
arch=@ARCH@ agent=@AGENT@ agent_from=@AGENT_FROM@ agent_size=@AGENT_SIZE@
recipe=@RECIPE@ recipe_from=@RECIPE_FROM@ recipe_size=@RECIPE_SIZE@ size=@SIZE@

fail() {
    echo "gpustrap: $1" >&2
    exit 1
}

[ "$(uname -s) $(uname -m)" = "Linux $arch" ] ||
    fail "this machine is $(uname -s) on $(uname -m), and this file is for Linux on $arch. Make one for it: gpustrap pack RECIPE --arch $(uname -m)"
[ -f "$0" ] || fail "this is to be run from a file, which also holds the agent: sh FILE"
[ "$(id -u)" = 0 ] || fail "this sets a machine up and needs root: sudo sh $0"
[ "$(wc -c <"$0")" -eq "$size" ] || fail "$0 has $(wc -c <"$0") bytes and should have $size: it was cut or changed. Copy it again, in binary"

command -v gzip >/dev/null || fail "gzip is not on this machine, and the agent here is packed by it: install gzip"

# part FROM SIZE: bytes of this file.
part() { tail -c "+$1" "$0" | head -c "$2"; }

digest() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -c 1-64
    else
        openssl dgst -sha256 -r "$1" | cut -c 1-64
    fi
}

# take FILE SHA256 MODE: what comes on standard input, under its name only when it is whole.
take() {
    cat >"$1.new.$$" || fail "$1 cannot be written; is the disk full? df -h"
    if [ "$(digest "$1.new.$$")" != "$2" ]; then
        rm -f "$1.new.$$"
        fail "$0 is damaged: $1 would not be what was packed. Copy it again, in binary"
    fi
    chmod "$3" "$1.new.$$"
    mv "$1.new.$$" "$1"
}

folder=/usr/local/lib/gpustrap state=/var/lib/gpustrap
umask 022
mkdir -p "$folder"
[ -x "$folder/agent-$agent" ] || part "$agent_from" "$agent_size" | gzip -dc | take "$folder/agent-$agent" "$agent" 0755
umask 077
mkdir -p "$state"
[ -f "$state/packed-$recipe.json" ] || part "$recipe_from" "$recipe_size" | take "$state/packed-$recipe.json" "$recipe" 0600
umask 022
exec "$folder/agent-$agent" run "$state/packed-$recipe.json" "$@"
