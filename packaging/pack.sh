#!/bin/sh
# pack.sh FILE PACKED: FILE in gzip's format, as small as the tools that are here make it. What a host unpacks is the same either way.
set -eu
if command -v libdeflate-gzip > /dev/null; then
    libdeflate-gzip -12 -c "$1" > "$2"   # writes neither name nor time, and 3 % less than gzip -9
else
    gzip -9 -n -c "$1" > "$2"
fi
