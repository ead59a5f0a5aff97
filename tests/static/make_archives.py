#!/usr/bin/env python3
"""make_archives.py DIR: the same two files, one with a name beyond ASCII, in every kind of archive the agent unpacks."""
import io
import os
import subprocess
import sys
import tarfile
import zipfile

NAMES = ["plain.txt", "Bücher/日本語-🙂.txt"]
folder = sys.argv[1]


def write_tar(name, mode, layout):
    with tarfile.open(os.path.join(folder, name), mode, format=layout) as archive:
        for path in NAMES:
            entry = tarfile.TarInfo(path)
            entry.size = 6
            archive.addfile(entry, io.BytesIO(b"hello\n"))


with zipfile.ZipFile(os.path.join(folder, "names.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
    for path in NAMES:
        archive.writestr(path, "hello\n")
write_tar("pax.tar", "w", tarfile.PAX_FORMAT)
write_tar("gnu.tar", "w", tarfile.GNU_FORMAT)
write_tar("names.tar.gz", "w:gz", tarfile.PAX_FORMAT)
write_tar("names.tar.bz2", "w:bz2", tarfile.PAX_FORMAT)
write_tar("names.tar.xz", "w:xz", tarfile.PAX_FORMAT)
subprocess.run(["zstd", "-q", "-f", "pax.tar", "-o", "names.tar.zst"], cwd=folder, check=True)
