"""The same twenty steps for pyinfra."""
from io import StringIO

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import apt, files, server, systemd

apt.packages(packages=["ca-certificates", "python3-apt"], _sudo=True)
for name in ("one", "two", "three", "four", "five"):
    files.directory(path=f"/srv/bench/{name}", mode="755", _sudo=True)
for name, content, mode in (("one/file", "the first file\n", "644"), ("two/file", "the second file\n", "644"),
                            ("three/file", "the third file\n", "644"), ("four/file", "the fourth file\n", "644"),
                            ("five/file", "the fifth file\n", "644"), ("sixth", "the sixth file\n", "600")):
    files.put(src=StringIO(content), dest=f"/srv/bench/{name}", mode=mode, _sudo=True)
files.link(path="/srv/bench/link_1", target="/srv/bench/one", _sudo=True)
files.link(path="/srv/bench/link_2", target="/srv/bench/two", _sudo=True)
files.file(path="/srv/bench/gone", present=False, _sudo=True)
for number in (1, 2, 3, 4):
    if not host.get_fact(File, path=f"/srv/bench/made_{number}", _sudo=True):
        server.shell(commands=[f"touch /srv/bench/made_{number}"], _sudo=True)
systemd.service(service="ssh", enabled=True, running=True, _sudo=True)
