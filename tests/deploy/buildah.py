"""Images built and started without an engine: buildah builds them, a namespace and a chroot are their container."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.deploy.manifests import ROOT, find_program, run

#: What a build needs of this machine to reach its package index; none of it gets into an image.
PIP_FILES: Final = ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
#: As an engine starts a container with --read-only --tmpfs /tmp --cap-drop ALL: $1 is the image, $2 the secrets, $3 the
#: user. A mount of its own is what can be made read-only.
ENTER: Final = """
set -eu
mount --bind "$1" "$1"
mount -t tmpfs tmpfs "$1/run" && mkdir "$1/run/secrets" && cp "$2"/* "$1/run/secrets/"
mount -o remount,bind,ro "$1/run"
mount -o remount,bind,ro "$1"
mount -t tmpfs -o size=512m,mode=1777,nosuid,nodev tmpfs "$1/tmp"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
image=$1 user=$3
shift 3
exec chroot --userspec="$user" --groups= "$image" env -i "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image, laid out as a folder, and what it says of itself."""

    root: Path
    size_bytes: int
    config: Mapping[str, Any]

    @property
    def user(self) -> str:
        """``uid:gid``."""
        return str(self.config["User"])

    @property
    def command(self) -> list[str]:
        """What it runs."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def health_check(self) -> list[str]:
        """What an engine would run to see whether it is well."""
        form, *command = self.config["Healthcheck"]["Test"]
        assert form == "CMD"
        return list(map(str, command))

    def start(self, command: list[str], secrets: Path, **environment: str) -> subprocess.Popen[str]:
        """Start a command in it, as the engine would; the process returned is the one around it."""
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        inside = [f"--chdir={self.config['WorkingDir']}", *variables, *command]
        return subprocess.Popen(
            [
                *("setpriv", "--no-new-privs", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
                *("sh", "-c", ENTER, "enter", self.root, secrets, self.user, *inside),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def stop(process: subprocess.Popen[str]) -> None:
    """Ask what runs in the container to stop, as an engine would."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8").split()
    os.kill(int(child), signal.SIGTERM)


class Buildah:
    """Images in a store of their own."""

    def __init__(self, store: Path) -> None:
        program = find_program("buildah", "install Debian's package buildah")
        self._command = (program, "--root", f"{store}/root", "--runroot", f"{store}/run")

    def import_base(self, folder: Path) -> str:
        """Make an image of a folder; return its name."""
        container = self.ask("from", "scratch")
        self.ask("add", "--quiet", container, str(folder), "/")
        self.ask("commit", "--quiet", "--rm", container, "base")
        return "localhost/base"

    def build(self, target: str | None, base: str) -> str:
        """Build a target of the Dockerfile, or what it builds without one; return the image's name."""
        files = [*map(Path, PIP_FILES), Path.home() / ".config/pip/pip.conf"]
        name = f"localhost/{target or 'default'}"
        self.ask(
            *("build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers"),
            *(f"--volume={path}:{path}:ro" for path in files if path.exists()),
            *("--build-arg", f"BASE={base}", "--tag", name),
            *(("--target", target) if target else ()),
            str(ROOT),
        )
        return name

    @contextmanager
    def laid_out(self, name: str) -> Iterator[Image]:
        """Lay an image out as a folder."""
        about = json.loads(self.ask("inspect", "--type", "image", name))
        size = self.ask("images", "--json", name)
        container = self.ask("from", "--pull-never", name)
        try:
            yield Image(
                root=Path(self.ask("mount", container)),
                size_bytes=_read_size(json.loads(size)[0]["size"]),
                config=about["Docker"]["config"],
            )
        finally:
            self.ask("umount", container)
            self.ask("rm", container)

    def ask(self, *arguments: str) -> str:
        """Run buildah."""
        return run(*self._command, *arguments).strip()


def _read_size(text: str) -> int:
    match = re.fullmatch(r"([\d.]+) ([KMG]?)B", text)
    assert match, text
    return int(float(match[1]) * {"": 1, "K": 1e3, "M": 1e6, "G": 1e9}[match[2]])
