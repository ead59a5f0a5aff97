#!/bin/sh
# Fetches the source of one distribution package, patches applied, without root and without touching /etc/apt.
#
#   fetch-source.sh PKG DEST WORK        unpacks PKG into DEST and leaves DEST/gpustrap-source.txt: the version
#                                        taken and the sha256 of every file it came from
#   fetch-source.sh --newest WORK PKG…   prints "PKG VERSION" for each, the newest this distribution offers
#   fetch-source.sh --archives WORK PKG  prints the folder in which the files of its source are
#
# WORK holds a private copy of the source index and the downloaded archives and may be shared by any number
# of builds at once. apt checks every file against the signed index.
set -eu

# The index is asked for again after this many days, so that security updates find their way into builds.
index_days=7

say() { echo "fetch-source: $*" >&2; }
die() { say "$*"; exit 1; }

# Prints the `deb` entries of this distribution's own suites as `deb-src` entries: a repository of someone
# else (a vendor's packages, a backport) has no sources we want, and may fail to update at all.
own_suites() {
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
    echo "$codename $codename-updates $codename-security $codename/updates stable stable-updates stable-security"
}

one_line_entries() {  # FILE
    awk -v suites="$(own_suites)" '
        BEGIN { n = split(suites, list, " "); for (i = 1; i <= n; i++) own[list[i]] = 1 }
        $1 == "deb" {
            line = $0; options = ""
            sub(/^deb[ \t]+/, "", line)
            if (line ~ /^\[/) { options = line; sub(/\].*/, "] ", options); sub(/^[^]]*\][ \t]*/, "", line) }
            sub(/#.*/, "", line)
            n = split(line, field, /[ \t]+/)
            if (!(field[2] in own)) next
            kept = ""
            for (i = 3; i <= n; i++) if (field[i] == "main" || field[i] == "universe") kept = kept " " field[i]
            if (kept != "") print "deb-src " options field[1] " " field[2] kept
        }' "$1"
}

deb822_entries() {  # FILE
    awk -v suites="$(own_suites)" '
        BEGIN { n = split(suites, list, " "); for (i = 1; i <= n; i++) own[list[i]] = 1; reset() }
        function reset() { rest = ""; name = ""; delete value }
        function words(text, wanted,    n, i, part, out) {
            n = split(text, part, /[ \t\n]+/); out = ""
            for (i = 1; i <= n; i++) if (part[i] in wanted) out = out " " part[i]
            return out
        }
        function finish(    suite, component) {
            usable["main"]; usable["universe"]; binary["deb"]; off["no"]; off["false"]
            suite = words(value["suites"], own); component = words(value["components"], usable)
            if (suite != "" && component != "" && words(value["types"], binary) != "" && words(tolower(value["enabled"]), off) == "")
                printf "Types: deb-src\nSuites:%s\nComponents:%s\n%s\n", suite, component, rest
            reset()
        }
        /^#/ { next }
        /^[ \t]*$/ { finish(); next }
        /^[ \t]/ { if (name in held) value[name] = value[name] " " $0; else rest = rest $0 "\n"; next }
        {
            name = tolower($0); sub(/:.*/, "", name)
            held["types"]; held["suites"]; held["components"]; held["enabled"]; held["architectures"]
            if (name in held) { text = $0; sub(/^[^:]*:/, "", text); value[name] = text } else rest = rest $0 "\n"
        }
        END { finish() }' "$1"
}

copy_sources() {
    rm -rf "$work/sources.d"
    mkdir -p "$work/sources.d"
    number=0
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        number=$((number + 1))
        one_line_entries "$file" > "$work/sources.d/$number.list"
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        number=$((number + 1))
        deb822_entries "$file" > "$work/sources.d/$number.sources"
    done
    find "$work/sources.d" -type f -empty -delete
    [ -n "$(ls "$work/sources.d")" ] || die "no entry for this distribution's own packages in /etc/apt/sources.list or" \
        "/etc/apt/sources.list.d. Add one, or give each library by -D<LIB>_URL= and -D<LIB>_SHA256=."
}

private_apt() {  # TOOL ARGS...
    tool=$1; shift
    "$tool" -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/sources.d" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

have_index() { [ -n "$(find "$work/lists" -maxdepth 1 -name '*_Sources*' 2>/dev/null)" ]; }

update_index() {
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    copy_sources
    # apt's exit status also speaks of hooks under /etc that only root can run, so the index itself is looked at.
    private_apt apt-get update > "$work/update.log" 2>&1 || true
    have_index || { cat "$work/update.log" >&2; die "the source index could not be fetched. Check the machine's apt" \
        "sources and proxy, or give each library by -D<LIB>_URL= and -D<LIB>_SHA256=."; }
    grep -q '^Err' "$work/update.log" && say "part of the source index could not be refreshed; see $work/update.log"
    touch "$work/updated"
}

fresh_index() {
    if ! have_index || [ -z "$(find "$work/updated" -mtime "-$index_days" 2>/dev/null)" ]; then update_index; fi
}

versions_of() {  # PKG: newest first
    private_apt apt-cache showsrc --only-source "$1" 2>/dev/null |
        awk -v pkg="$1" '/^$/ { mine = 0 } /^Package:/ { mine = ($2 == pkg) } mine && /^Version:/ { print $2 }' | sort -u -r -V
}

# A mirror may list a version whose files are already gone; then the next one is taken.
download() {  # PKG
    pkg=$1
    for version in $(versions_of "$pkg"); do
        archives="$work/archives/${pkg}_$(echo "$version" | tr ':' '%')"
        if [ -f "$archives/complete" ]; then return 0; fi
        rm -rf "$archives"
        mkdir -p "$archives"
        if (cd "$archives" && private_apt apt-get source --only-source --download-only "$pkg=$version") > "$work/$pkg.log" 2>&1; then
            echo "$pkg $version" > "$archives/complete"
            return 0
        fi
        rm -rf "$archives"
        say "$pkg $version is listed but cannot be downloaded, trying an older one (see $work/$pkg.log)"
    done
    return 1
}

command -v apt-get > /dev/null || die "apt-get is not on this machine. Give each library by -D<LIB>_URL= and -D<LIB>_SHA256=."
command -v dpkg-source > /dev/null || die "dpkg-source is missing. Install dpkg-dev."

newest='' archives_only=''
if [ "${1:-}" = --newest ]; then newest=yes; shift; work=${1:?WORK}; shift
elif [ "${1:-}" = --archives ]; then archives_only=yes work=${2:?WORK} pkg=${3:?PKG}
else
    pkg=${1:?PKG} dest=${2:?DEST} work=${3:?WORK}
    case $dest in /*) ;; *) dest=$PWD/$dest ;; esac
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)
exec 9> "$work/lock"
flock 9

fresh_index
if [ -n "$newest" ]; then
    for pkg in "$@"; do
        version=$(versions_of "$pkg" | head -n 1)
        [ -n "$version" ] || die "no source package named $pkg in this distribution"
        echo "$pkg $version"
    done
    exit 0
fi

if ! download "$pkg"; then
    update_index
    download "$pkg" || die "no version of $pkg can be downloaded; see $work/$pkg.log. Or give -D<LIB>_URL= and -D<LIB>_SHA256=."
fi
flock -u 9
if [ -n "$archives_only" ]; then
    echo "$archives"
    exit 0
fi

rm -rf "$dest"
mkdir -p "$(dirname "$dest")"
# apt has checked the files against the signed index already.
dpkg-source --no-check -x "$archives"/*.dsc "$dest" > "$dest.log" 2>&1 || { cat "$dest.log" >&2; die "unpacking $pkg failed"; }
rm -f "$dest.log"
{
    cat "$archives/complete"
    cd "$archives"
    sha256sum -- *.dsc *.tar.* | awk '!/\.asc$/ { print "  " $1 "  " $2 }'
} > "$dest/gpustrap-source.txt"
say "$(cat "$archives/complete")"
