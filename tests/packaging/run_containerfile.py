"""Run the steps of the container file in a folder of Debian's own, where no builder can be had.

Usage (as root, with debootstrap): python tests/packaging/run_containerfile.py FOLDER

Debian's Python stands in for that of the base image. Steps that take files are carried out by
copying, those that run a command in a chroot. At the end the service is started as the container
would start it, on a port of the loopback address and without a person, and asked for its health by
the container's own check. FOLDER keeps the base system for the next time.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PROJECT = Path(__file__).parents[2]
CONTAINERFILE = PROJECT / "packaging" / "Containerfile"
PACKAGES = "python3,python3-venv,ca-certificates"
MOST_MB = 1000  # of the image's own environment, without its base system
PATIENCE = 60.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Image:
    """A root folder as the steps of a stage have left it, and what is set in it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    settings: dict[str, list[str]] = field(default_factory=dict)

    def run(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        environment = {"PATH": PATH, "LANG": "C.UTF-8"}
        environment.update({k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))})
        environment.update(self.environment)
        inside = ["cd", self.folder, "&&", "exec", *map(shlex.quote, command)]
        wrapped = ["chroot", f"--userspec={self.user}", str(self.root), "/bin/sh", "-c"]
        return subprocess.Popen([*wrapped, " ".join(inside)], env=environment, **options)  # type: ignore[call-overload,no-any-return]

    def copy(self, sources: list[Path], target: str) -> None:
        place = self.root / (PurePosixPath(self.folder) / target).relative_to("/")
        for source in sources:
            into = place / source.name if target.endswith("/") and source.is_file() else place
            into.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, into, dirs_exist_ok=True)
            else:
                shutil.copy2(source, into)


def steps(text: str) -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = (line.strip() for line in joined.splitlines())
    return [tuple(line.split(maxsplit=1)) for line in lines if line and line[0] != "#"]  # type: ignore[misc]


def base_system(folder: Path) -> Path:
    root = folder / "base"
    if not (root / "usr" / "bin" / "python3").exists():
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
        subprocess.run([*command, str(root)], check=True)
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    for setting in ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", bundle):
        if Path(setting).exists():
            place = root / setting.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(setting, place)
    return root


def build(folder: Path) -> Image:
    """Carry out all stages and return the last."""
    base, stages = base_system(folder), dict[str, Image]()
    image = Image(base)
    for number, (word, rest) in enumerate(steps(CONTAINERFILE.read_text(encoding="utf-8"))):
        print(f"{word} {rest}"[:100], flush=True)
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            root = folder / name
            if root.exists():
                shutil.rmtree(root)
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
            image = stages[name] = Image(root)
        elif word == "RUN":
            process = image.run(["/bin/sh", "-c", rest])
            if process.wait() != 0:
                sys.exit(f"step {number} failed: {word} {rest}")
        elif word == "COPY":
            *sources, target = rest.split()
            if sources[0].startswith("--from="):
                root = stages[sources.pop(0).removeprefix("--from=")].root
                image.copy([root / source.lstrip("/") for source in sources], target)
            else:
                image.copy([PROJECT / source for source in sources], target)
        elif word == "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                path = image.environment.get("PATH", PATH)
                image.environment[key] = value.replace("$PATH", path)
        elif word == "WORKDIR":
            image.folder = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            image.user = rest
        elif word == "HEALTHCHECK":
            image.settings[word] = json.loads(rest[rest.index("CMD") + 3 :])
        elif word in {"CMD", "ENTRYPOINT"}:
            image.settings[word] = json.loads(rest)
        elif word not in {"VOLUME", "EXPOSE", "STOPSIGNAL"}:
            sys.exit(f"{word} is no step that this program knows")
    return image


def check(image: Image) -> None:
    """Start the service as the container would, and ask for its health."""
    size = sum(f.lstat().st_size for f in (image.root / "opt" / "makellos").rglob("*"))
    print(f"{size / 1e6:.0f} MB in /opt/makellos", flush=True)
    assert size < MOST_MB * 1e6
    assert not list((image.root / "opt" / "makellos").rglob("site-packages/torch"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = [*image.settings["ENTRYPOINT"], *image.settings["CMD"]]
    refused = image.run(told, stderr=subprocess.PIPE)
    message = refused.communicate(timeout=PATIENCE)[1].decode()
    assert refused.returncode == 2, message
    assert "users add" in message, message
    here = [{"0.0.0.0": "127.0.0.1", "8000": port}.get(word, word) for word in told]  # noqa: S104
    service = image.run(here)
    try:
        health = [word.replace(":8000", f":{port}") for word in image.settings["HEALTHCHECK"]]
        deadline = time.monotonic() + PATIENCE
        while image.run(health, stderr=subprocess.DEVNULL).wait() != 0:
            assert service.poll() is None, "the service has ended"
            assert time.monotonic() < deadline, "the service is not healthy"
            time.sleep(0.5)
        print("healthy", flush=True)
    finally:
        service.terminate()
        assert service.wait(timeout=PATIENCE) == 0


if __name__ == "__main__":
    check(build(Path(sys.argv[1]).resolve()))
