#!/usr/bin/env python3
"""Makes a package index with stand-ins for the frameworks, which are gigabytes: packages of the real names that hold a few lines.

    stand_in_index.py DIR

DIR/NAME/index.html names the wheels beside it, as pip expects of an index (simple repository API). The stand-ins import under their
real names and say that there is no GPU (MXNet: one that adds up); nothing else about them is true.
"""
import base64
import hashlib
import pathlib
import sys
import zipfile

NO_GPU = {
    "torch": ("2.14.0", "class cuda:\n    @staticmethod\n    def is_available():\n        return False\n"),
    "torchvision": ("0.29.0", ""),
    "tensorflow": ("2.21.0", "class config:\n    @staticmethod\n    def list_physical_devices(kind):\n        return []\n"),
}
MXNET = """class npx:
    @staticmethod
    def set_np(): pass
    @staticmethod
    def num_gpus(): return 1
    @staticmethod
    def gpu(index): return index
class np:
    def __init__(self, total): self.total = total
    @classmethod
    def ones(cls, shape, ctx): return cls(shape[0] * shape[1])
    def sum(self): return self.total
"""


def wheel(directory, name, version, source, module):
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{module}/__init__.py": f'__version__ = "{version}"\n{source}',
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: and-cuda\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{stem}.dist-info/RECORD"] = record + f"{stem}.dist-info/RECORD,,\n"
    target = directory / name
    target.mkdir(parents=True, exist_ok=True)
    file = target / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (target / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{file.name}#sha256={digest}">{file.name}</a></body></html>\n')


for package, (release, code) in NO_GPU.items():
    wheel(pathlib.Path(sys.argv[1]), package, release, code, package)
wheel(pathlib.Path(sys.argv[1]), "mxnet-cu101", "1.7.0", MXNET, "mxnet")
