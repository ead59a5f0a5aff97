#!/usr/bin/env python3
"""A stand-in for conda, not conda: what the end-to-end tests need of it, with its words, flags, files and exit codes.

A stand-in installer (stand_in_conda.py) puts it to PREFIX/bin/conda. Its Pythons are the host's own, in a virtual environment whose
pyvenv.cfg lies in bin/, so that the environment looks like one of conda's. Its channels have repodata.json and packages (tar) as the
real ones do; the channels that a real conda asks by default are those of the installer's file. It solves nothing: the newest version
that fits is taken, with everything it depends on.
"""
import argparse
import datetime
import hashlib
import io
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOLD = pathlib.Path("/run/hold-conda")  # while it exists, the work that was begun stands still
TERMS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


class Failure(Exception):
    """An error as conda's JSON tells it."""

    def __init__(self, name, message, **details):
        super().__init__(message)
        self.document = {"caused_by": "None", **details, "error": f"{name}: {message}", "exception_name": name,
                         "exception_type": f"<class 'conda.exceptions.{name}'>", "message": message}


def settings():
    return json.loads((ROOT / "stand-in.json").read_text())


def fetch(url):
    request = urllib.request.Request(url, headers={"User-Agent": "stand-in-conda"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
            length = answer.headers.get("Content-Length")
            if length is not None and len(content) < int(length):
                raise OSError("the connection was cut")
            return content
    except urllib.error.HTTPError as error:
        raise Failure("CondaHTTPError", f"HTTP {error.code} {error.reason.upper()} for url <{url}>\nElapsed: 00:00.01\n", url=url,
                      status_code=error.code) from error
    except OSError as error:
        raise Failure("CondaHTTPError", f"HTTP 000 CONNECTION FAILED for url <{url}>\nElapsed: -\n", url=url, status_code="000") from error


def numbers(version):
    return [int(part) if part.isdigit() else -1 for part in re.split(r"[.+]", version)]


def fits(version, condition):
    if not condition:
        return True
    for clause in condition.split(","):
        operation, wanted = re.fullmatch(r"(==|>=|<=|!=|=|<|>)(.+)", clause).groups()
        wanted = wanted.removesuffix(".*")
        beginning = version == wanted or version.startswith(wanted + ".")
        have, want = numbers(version), numbers(wanted)
        if not {"==": version == wanted, "=": beginning, "!=": version != wanted, ">=": have >= want, "<=": have <= want,
                "<": have < want, ">": have > want}[operation]:
            return False
    return True


def split_spec(text):
    return re.fullmatch(r"(?:.*::)?([a-z0-9_.-]+?)((?:[=<>!]).*)?", text).groups()


def accepted(channel):
    for root in (ROOT / "conda-meta/tos", pathlib.Path.home() / ".conda/tos"):
        for file in root.glob("*/*.json"):
            document = json.loads(file.read_text())
            if document["base_url"] == channel and document["tos_accepted"]:
                return True
    return False


def base_urls(arguments):
    """The channels' real names and where the stand-ins for them are."""
    known = settings()["channels"]
    names = arguments.channel or known["defaults"]
    if (ROOT / "conda-meta/conda-anaconda-tos-0.2.1-0.json").exists():
        missing = [name for name in names if name in TERMS and not accepted(name)]
        if missing:
            text = "\n".join("    - " + name for name in missing)
            raise Failure("CondaToSNonInteractiveError", "Terms of Service have not been accepted for the following channels. Please accept "
                          f"or remove them before proceeding:\n{text}\n\nTo accept these channels' Terms of Service, run …\n")
    alias = os.environ.get("CONDA_CHANNEL_ALIAS")
    if alias:
        names = [name if "://" in name else f"{alias}/{name}" for name in names]
    return [known["urls"].get(name, name) for name in names]


def choose(specs, channels):
    available = []
    for channel in channels:
        try:
            document = json.loads(fetch(channel + "/noarch/repodata.json"))
        except Failure as failure:
            if failure.document.get("status_code") == 404:
                raise Failure("UnavailableInvalidChannel", f"HTTP 404 NOT FOUND for channel <{channel}>\n", channel_url=channel) from failure
            raise
        for name, record in document["packages"].items():
            available.append({**record, "fn": name, "url": f"{channel}/noarch/{name}"})
    chosen, todo = {}, list(specs)
    while todo:
        name, condition = split_spec(todo.pop(0))
        if name in chosen:
            continue
        if name == "python":
            candidates = [{"name": "python", "version": platform.python_version(), "build": "stand_in", "depends": [], "url": ""}]
        else:
            candidates = [record for record in available if record["name"] == name]
        candidates = [record for record in candidates if fits(record["version"], condition)]
        if not candidates:
            urls = [channel + "/noarch" for channel in channels]
            raise Failure("PackagesNotFoundInChannelsError", "The following packages are not available from current channels:\n\n"
                          f"  - {name}{condition or ''}\n", packages=[name + (condition or "")], channel_urls=urls)
        chosen[name] = max(candidates, key=lambda record: numbers(record["version"]))
        todo += chosen[name]["depends"]
    return list(chosen.values())


def hold():
    while HOLD.exists():
        time.sleep(0.05)


def lay_down_python(prefix, with_pip):
    subprocess.run(["/usr/bin/python3", "-m", "venv", *([] if with_pip else ["--without-pip"]), str(prefix)], check=True,
                   stdout=sys.stderr)
    (prefix / "pyvenv.cfg").rename(prefix / "bin/pyvenv.cfg")


def link(prefix, record, content):
    if record["name"] == "python":
        lay_down_python(prefix, False)
    elif record["name"] == "pip":
        subprocess.run([str(prefix / "bin/python"), "-m", "ensurepip"], check=True, stdout=sys.stderr)
    elif record["name"] == "jupyterlab":  # the real one, from where pip gets it
        subprocess.run([str(prefix / "bin/python"), "-m", "pip", "install", "--quiet", "jupyterlab"], check=True, stdout=sys.stderr)
    if content:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(prefix, members=[member for member in archive if not member.name.startswith("info/")])
    stem = "-".join((record["name"], record["version"], record["build"]))
    (prefix / "conda-meta" / (stem + ".json")).write_text(json.dumps(record))


def install(arguments, specs):
    prefix = pathlib.Path(arguments.prefix) if arguments.prefix else ROOT / "envs" / arguments.name
    history = prefix / "conda-meta/history"
    if arguments.command == "create" and history.exists():
        shutil.rmtree(prefix)  # as the real one does with --yes
    if arguments.command == "install" and not history.exists():
        raise Failure("EnvironmentLocationNotFound", f"Not a conda environment: {prefix}", location=str(prefix))
    records = choose(specs, base_urls(arguments))
    if arguments.dry_run:
        index = pathlib.Path(os.environ.get("CONDA_PKGS_DIRS", ROOT / "pkgs")) / "cache"
        index.mkdir(parents=True, exist_ok=True)  # as the real one keeps the index of each channel
        (index / "497deca9.json").write_text("{}", encoding="utf-8")
        there = {path.name.rsplit("-", 2)[0]: path.name.rsplit("-", 2)[1] for path in (prefix / "conda-meta").glob("*-*-*.json")}
        comes = [{"name": record["name"], "version": record["version"]} for record in records if there.get(record["name"]) != record["version"]]
        goes = [{"name": one["name"], "version": there[one["name"]]} for one in comes if one["name"] in there]
        print(json.dumps({"actions": {"LINK": comes, "UNLINK": goes, "PREFIX": str(prefix)}, "dry_run": True, "prefix": str(prefix),
                          "success": True}, indent=2))
        return
    contents = {}
    for record in records:
        if not record["url"]:
            continue
        cached = ROOT / "pkgs" / record["fn"]
        if not cached.exists():
            cached.parent.mkdir(exist_ok=True)
            content = fetch(record["url"])
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                raise Failure("ChecksumMismatchError", f"Conda detected a mismatch between the expected content and downloaded content\n"
                              f"for url '{record['url']}'.", url=record["url"])
            cached.write_bytes(content)
        contents[record["name"]] = cached.read_bytes()
        sys.stdout.write('{"fetch":"%s %s | %d B","finished":true,"maxval":1,"progress":1}\n\0' % (record["name"], record["version"],
                                                                                              len(contents[record["name"]])))
        sys.stdout.flush()
    prefix.mkdir(parents=True, exist_ok=True)
    (prefix / "conda-meta").mkdir(exist_ok=True)
    for record in sorted(records, key=lambda record: (record["name"] != "python", record["name"] != "pip", record["name"])):
        for old in (prefix / "conda-meta").glob(record["name"] + "-*-*.json"):
            if old.name.rsplit("-", 2)[0] == record["name"]:
                old.unlink()
        link(prefix, record, contents.get(record["name"]))
        hold()
    with open(history, "a", encoding="utf-8") as file:
        file.write(f"==> {datetime.datetime.now()} <==\n# update specs: {specs}\n")
    linked = [{"name": record["name"], "version": record["version"]} for record in records]
    print(json.dumps({"success": True, "actions": {"LINK": linked, "PREFIX": str(prefix)}, "prefix": str(prefix)}, indent=2))


def dependencies_of(file):
    """The one form of environment.yml that the tests use: a list below `dependencies:`, one name a line."""
    text = pathlib.Path(file).read_text(encoding="utf-8")
    return re.findall(r"^  - (\S+)$", text.split("dependencies:")[1], re.M)


def init():
    bashrc = pathlib.Path.home() / ".bashrc"
    text = bashrc.read_text(encoding="utf-8") if bashrc.exists() else ""
    block = (f"# >>> conda initialize >>>\n# !! Contents within this block are managed by 'conda init' !!\n"
             f"eval \"$('{ROOT}/bin/conda' 'shell.bash' 'hook')\"\n# <<< conda initialize <<<\n")
    text, found = re.subn(r"# >>> conda initialize >>>\n.*?# <<< conda initialize <<<\n", lambda _: block, text, flags=re.S)
    bashrc.write_text(text if found else text + "\n" + block, encoding="utf-8")
    print(f"modified      {bashrc}")


def accept(channel):
    folder = pathlib.Path.home() / ".conda/tos" / hashlib.sha256(channel.encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "1752532320.0.json").write_text(json.dumps({"version": "2025-07-14T22:32:00Z", "text": "", "support": "", "tos_accepted": True,
                                                         "base_url": channel}))
    print(f"accepted Terms of Service for {channel}")


def main():
    words = sys.argv[1:]
    if words == ["init", "bash"]:
        return init()
    if words == ["shell.bash", "hook"]:
        return print(f'export CONDA_EXE="{ROOT}/bin/conda"; PATH="{ROOT}/condabin:$PATH"')
    if words[:2] == ["tos", "accept"]:
        return accept(words[-1])
    parser = argparse.ArgumentParser(prog="conda")
    parser.add_argument("command", choices=["create", "install", "env"])
    parser.add_argument("rest", nargs="*")
    for flag in ("--json", "--override-channels", "--dry-run"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-y", "--yes", action="store_true")
    parser.add_argument("-p", "--prefix")
    parser.add_argument("-n", "--name")
    parser.add_argument("-c", "--channel", action="append")
    parser.add_argument("-f", "--file")
    arguments = parser.parse_intermixed_args(words)
    try:
        if arguments.command == "env":
            arguments.command = "update"
            return install(arguments, dependencies_of(arguments.file))
        return install(arguments, arguments.rest)
    except Failure as failure:
        print(json.dumps(failure.document, indent=2))
        return 1
    except OSError as error:
        print(json.dumps({"error": str(error), "exception_name": "CondaError", "message": str(error)}, indent=2))
        return 1


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
