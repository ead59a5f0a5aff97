#!/usr/bin/env bash
# What a release owes to those whose work is linked into it.
#
#   third-party.sh licences MANIFEST…      prints the licences of all that the programs with these manifests contain
#   third-party.sh sources DIR MANIFEST…   puts the sources of it into DIR, as they were fetched
#
# A manifest is what `gpustrap version` and `gpustrap-agent --version` print; it names the libraries and the build they come from.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gpustrap
common=/usr/share/common-licenses
fail() { echo "third-party: $*" >&2; exit 1; }

prefix_of() { # MANIFEST: where the libraries that it names were built to
    local prefix
    prefix=$cache/static-deps/$(sed -n 's/^architecture: //p' "$1")-$(sed -n 's/^libraries: //p' "$1")
    [ -f "$prefix/sources.txt" ] || fail "the libraries of $1 are not on this machine any more ($prefix). Run ./dev build."
    echo "$prefix"
}

# The copyright of the package that holds FILE, as the distribution tells it.
copyright_of_file() {
    local package
    package=$(dpkg-query -S "$(realpath "$1")" | head -n 1)
    cat "/usr/share/doc/${package%%[:,]*}/copyright"
}

section() { printf '\n%s\n%s\n\n' "$1" "$(printf '%*s' "${#1}" '' | tr ' ' '=')"; }

licences() {
    local text manifest prefix name names=''
    text=$(mktemp)
    for manifest in "$@"; do
        prefix=$(prefix_of "$manifest")
        for name in "$prefix"/licences/*; do
            [[ " $names " != *" ${name##*/} "* ]] || continue
            names+=" ${name##*/}"
            section "${name##*/}"
            cat "$name"
        done
    done >"$text"
    {
        local header
        for header in nlohmann/json.hpp tl/expected.hpp CLI/CLI.hpp spdlog/spdlog.h; do
            section "$header (a library of headers)"
            copyright_of_file "/usr/include/$header"
        done
        section "libstdc++ and libgcc, the runtime of the compiler"
        copyright_of_file "$(c++ -print-file-name=libstdc++.a)"
        section "The GNU C library, in the agents alone"
        copyright_of_file "$(c++ -print-file-name=libc.a)"
    } >>"$text"
    cat <<'HEAD'
What others wrote, in the programs of this archive
==================================================

gpustrap is under the licence in LICENSE. Its programs contain the libraries below, unchanged but for the patches of the
distribution whose sources they were built from; `gpustrap version` and the manifests beside the agents name versions and digests.

Two of them are under the GNU Lesser General Public License: libssh in `gpustrap`, the GNU C library in the agents. You may
change either and put it into the programs again, and you may look into the programs to that end. The archive
`gpustrap-VERSION-sources.tar`, which is published at the same place as this one, holds the sources of both, of the other libraries, and
of gpustrap with its build: unpack it, change libssh, pack it again, and run

  cmake --preset release -DLIBSSH_URL=file:///PATH/libssh.tar.gz -DLIBSSH_SHA256=$(sha256sum libssh.tar.gz | cut -d' ' -f1)
  cmake --build --preset release

HEAD
    cat "$text"
    # The copyright files name these instead of repeating them.
    local licence
    grep -oE "$common/[A-Za-z0-9.+-]+[A-Za-z0-9]" "$text" | sort -u | while read -r licence; do
        [ -f "$licence" ] || continue
        section "The text of ${licence##*/}"
        cat "$licence"
    done
    rm -f "$text"
}

# What a line of sources.txt names: a package as the distribution gave it, or an archive by its address.
source_of() { # DIR SOURCES_TXT PACKAGE VERSION
    local file
    case $4 in
    from\ *)
        file=$1/${4##*/}
        curl -fsSL --retry 3 -o "$file" "${4#from }"
        echo "$(grep -F -A 1 "$3 $4" "$2" | sed -n 's/^  \([0-9a-f]*\) .*/\1/p')  $file" | sha256sum --quiet --check -
        ;;
    *)
        cp -n "$cache/sources/archives/$3_${4//:/%}"/*.{dsc,tar.*} "$1/" || fail "the source of $3 $4 is not on this machine any more"
        ;;
    esac
}

sources() { # DIR MANIFEST…
    local dir=$1 manifest list package version
    shift
    mkdir -p "$dir"
    git -C "$root" archive --format=tar --prefix=gpustrap/ HEAD | tar -C "$dir" -xf -
    for manifest in "$@"; do
        list=$(prefix_of "$manifest")/sources.txt
        while read -r package version; do source_of "$dir" "$list" "$package" "$version"; done < <(grep -E '^[a-z]' "$list")
    done
    cp -n "$("$root/packaging/fetch-source.sh" --archives "$cache/sources" glibc)"/*.{dsc,tar.*} "$dir/"
}

what=${1:-}
[ $# -lt 2 ] || shift
case $what in
licences | sources) "$what" "$@" ;;
*) fail "there are licences and sources" ;;
esac
