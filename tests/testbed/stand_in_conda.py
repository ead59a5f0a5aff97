#!/usr/bin/env python3
"""Makes stand-ins of what the publishers of conda serve and a test network cannot reach.

    stand_in_conda.py installer FILE --channels URL [--version V] [--terms]
    stand_in_conda.py channel FOLDER

An installer is a shell script with its payload behind it, and takes -b -f -u -p PREFIX as the real ones do; an existing prefix
without -u or -f is refused in their words. It needs python3 on the host, which the real ones bring along. With --terms it is one of
Anaconda's, whose channels ask for their Terms of Service. While /run/hold-conda exists an installer stands still in mid work.
A channel has a few packages in the real format (repodata.json, tar.bz2).
"""
import argparse
import hashlib
import io
import json
import pathlib
import random
import tarfile

HERE = pathlib.Path(__file__).resolve().parent

HEADER = """#!/bin/sh
# A stand-in for an installer of conda, made by gpustrap's tests.
set -eu
if ! echo "$0" | grep '\\.sh$' > /dev/null; then
    printf 'Please run using "bash"/"dash"/"sh"/"zsh", but not "." or "source".\\n' >&2
    exit 1
fi
PREFIX=$HOME/stand-in-conda
BATCH=0
FORCE=0
while getopts "bifhkp:smut" x; do
    case "$x" in
        b) BATCH=1 ;;
        f|u) FORCE=1 ;;
        p) PREFIX="$OPTARG" ;;
        i|h|k|s|m|t) ;;
        ?) printf "ERROR: did not recognize option '%s', please try -h\\n" "$x"; exit 1 ;;
    esac
done
if [ "$BATCH" = 0 ]; then
    printf "In order to continue the installation process, please review the license\\nagreement.\\n>>> "
    read -r dummy
fi
case "$PREFIX" in *\\ *) printf "ERROR: Cannot install into directories with spaces\\n" >&2; exit 1 ;; esac
if [ "$FORCE" = 0 ] && [ -e "$PREFIX" ]; then
    printf "ERROR: File or directory already exists: '%s'\\n" "$PREFIX" >&2
    printf "If you want to update an existing installation, use the -u option.\\n" >&2
    exit 1
fi
mkdir -p "$PREFIX"
printf "PREFIX=%s\\n" "$PREFIX"
THIS=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
mkdir -p "$PREFIX/install_tmp" "$PREFIX/conda-meta"
touch "$PREFIX/conda-meta/history" "$PREFIX/.messages.txt"
printf "Unpacking payload...\\n"
lines=$(grep -anm 1 '^@@END_HEADER@@' "$THIS" | cut -d: -f1)
tail -n +$((lines + 1)) "$THIS" | tar -xzf - -C "$PREFIX" || exit 1
while [ -e /run/hold-conda ]; do sleep 0.05; done
rm -f "$PREFIX"/conda-meta/conda-[0-9]*.json
printf "Installing base environment...\\n"
mv "$PREFIX"/records/* "$PREFIX/conda-meta/"
rmdir "$PREFIX/records"
/usr/bin/python3 -m venv --without-pip "$PREFIX"
mv "$PREFIX/pyvenv.cfg" "$PREFIX/bin/pyvenv.cfg"
rm -rf "$PREFIX/install_tmp" "$PREFIX/.messages.txt"
printf "installation finished.\\n"
exit 0
@@END_HEADER@@
"""


def tar_of(files, mode):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mode = 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


def make_installer(arguments):
    urls = {"conda-forge": arguments.channels, "https://repo.anaconda.com/pkgs/main": arguments.channels,
            "https://repo.anaconda.com/pkgs/r": arguments.channels}
    defaults = ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"] if arguments.terms else ["conda-forge"]
    files = {
        "bin/conda": (HERE / "stand_in_conda_tool.py").read_bytes(),
        "stand-in.json": json.dumps({"channels": {"defaults": defaults, "urls": urls}}).encode(),
        # As much as a disk of a test can be too small for; the real ones are a hundred times as large.
        "share/filling": random.Random(1).randbytes(3 << 20),
        f"records/conda-{arguments.version}-stand_in.json": b"{}",
        "records/python-3.11.2-stand_in.json": b"{}",
    }
    if arguments.terms:
        files["records/conda-anaconda-tos-0.2.1-0.json"] = b"{}"
    pathlib.Path(arguments.file).write_bytes(HEADER.encode() + tar_of(files, "w:gz"))


def make_channel(arguments):
    folder = pathlib.Path(arguments.folder) / "noarch"
    folder.mkdir(parents=True, exist_ok=True)
    packages = {}
    for name, version, depends in (("pip", "24.0", []), ("numbers-lib", "1.1", []), ("toy", "1.0", ["numbers-lib"]), ("toy", "2.0", ["numbers-lib"]),
                                   ("extra", "0.3", []), ("cudatoolkit", "10.1", []), ("jupyterlab", "4.0", ["pip"])):
        content = tar_of({f"share/{name}.txt": f"{name} {version}\n".encode(), "info/index.json": b"{}"}, "w:bz2")
        file = f"{name}-{version}-0.tar.bz2"
        (folder / file).write_bytes(content)
        packages[file] = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends, "subdir": "noarch",
                          "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "repodata.json").write_text(json.dumps({"info": {"subdir": "noarch"}, "packages": packages}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    installer = verbs.add_parser("installer")
    installer.add_argument("file")
    installer.add_argument("--channels", required=True)
    installer.add_argument("--version", default="26.3.2")
    installer.add_argument("--terms", action="store_true")
    installer.set_defaults(act=make_installer)
    channel = verbs.add_parser("channel")
    channel.add_argument("folder")
    channel.set_defaults(act=make_channel)
    arguments = parser.parse_args()
    arguments.act(arguments)


if __name__ == "__main__":
    main()
