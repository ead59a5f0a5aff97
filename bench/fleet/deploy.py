"""The ten steps of recipe.yaml for pyinfra."""
from io import StringIO

from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import files, server

home = f"/home/{host.data.ssh_user}"
for name in ("one", "two"):
    files.directory(path=f"{home}/bench/{name}", mode="755")
for name, content, mode in (("one/file", "the first file\n", "644"), ("two/file", "the second file\n", "644"),
                            ("third", "the third file\n", "600")):
    files.put(src=StringIO(content), dest=f"{home}/bench/{name}", mode=mode)
files.link(path=f"{home}/bench/link_1", target="/srv")
files.file(path=f"{home}/bench/gone", present=False)
for number in (1, 2, 3):
    if not host.get_fact(File, path=f"{home}/bench/made_{number}"):
        server.shell(commands=[f"touch {home}/bench/made_{number}"])
