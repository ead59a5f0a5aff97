#!/bin/sh
# Keeps what each library may be used by: keep-licences.sh DEST SOURCES NAME…
#
# Of a distribution's source that is debian/copyright, which names every file's licence; of an archive the files it calls so.
set -eu

dest=$1 sources=$2
shift 2
mkdir -p "$dest"
for name in "$@"; do
    if [ -f "$sources/$name/debian/copyright" ]; then
        cp "$sources/$name/debian/copyright" "$dest/$name"
    else
        find "$sources/$name" -maxdepth 1 -type f \( -iname 'LICEN[CS]E*' -o -iname 'COPYING*' \) -exec cat {} + > "$dest/$name"
    fi
    [ -s "$dest/$name" ] || { echo "keep-licences: $sources/$name has no licence that could be kept" >&2; exit 1; }
done
