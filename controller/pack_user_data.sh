#!/bin/sh
# gpustrap @VERSION@: fetches what `gpustrap pack` has made of the recipe @NAME@, sees that it is that, and runs it. For the user data of a
# cloud's machine, whose cloud-init runs it once as root; or by hand.
set -eu
url='@URL@' sha256=@SHA256@

fail() {
    echo "gpustrap: $1" >&2
    exit 1
}

fetch() {
    if command -v curl >/dev/null; then
        curl -fsSL --connect-timeout 20 -o "$2" "$1"
    elif command -v wget >/dev/null; then
        wget -q -T 60 -O "$2" "$1"
    else
        python3 -c 'import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1], sys.argv[2])' "$1" "$2"
    fi
}

digest() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -c 1-64
    else
        openssl dgst -sha256 -r "$1" | cut -c 1-64
    fi
}

[ "$(id -u)" = 0 ] || fail "this sets a machine up and needs root: sudo sh $0"
umask 077
mkdir -p /var/lib/gpustrap
file=/var/lib/gpustrap/packed-$sha256.sh
if ! [ -f "$file" ] || [ "$(digest "$file")" != "$sha256" ]; then
    tries=1
    until fetch "$url" "$file.new"; do
        [ "$tries" -lt "${GPUSTRAP_TRIES:-20}" ] || fail "$url could not be fetched, $tries times. Can this machine reach it? curl -I $url"
        tries=$((tries + 1))
        sleep 5
    done
    got=$(digest "$file.new")
    if [ "$got" != "$sha256" ]; then
        rm -f "$file.new"
        fail "what is at $url has the sha256 $got, and $sha256 was packed. Upload the packed file again, or make this text anew: gpustrap pack"
    fi
    mv "$file.new" "$file"
fi
exec sh "$file" "$@"
