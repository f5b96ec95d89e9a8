"""The database that comes along: whichever program it is, the hub's own kind of write works on it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import BulkWriteError, PyMongoError

from whatsapp_hub.demo.database_server import DatabaseServer, EmbeddedFailed, Program, explain_end
from whatsapp_hub.demo.embedded import FALLBACK, embedded, find_programs, replica_set

ROOT = Path(__file__).parents[2]
KINDS = ["mongod", "secantusd-py"]


def find_program(kind: str) -> Program:
    return next(program for program in find_programs() if program.kind == kind)


def write_script(path: Path, body: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{dedent(body)}")
    path.chmod(0o755)
    return path


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    wanted: str = request.param
    monkeypatch.setenv("HUB_EMBEDDED", str(find_program(wanted).path))
    return wanted


@pytest.fixture
def inbox(kind: str) -> Iterator[Any]:
    with embedded() as running:
        assert running.kind == kind
        with MongoClient[dict[str, Any]](running.uri) as client:
            inbox = client["hub"].get_collection("inbox", write_concern=WriteConcern("majority", j=True))
            inbox.create_index("conversation", unique=True, partialFilterExpression={"state": "active"})
            yield inbox


def test_durable_batch_says_which_rule_refused_which_document(inbox: Any) -> None:
    batch = [
        {"_id": "a1", "conversation": "a", "state": "active"},
        {"_id": "a2", "conversation": "a", "state": "active"},
        {"_id": "a1", "conversation": "z", "state": "queued"},
        {"_id": "a3", "conversation": "a", "state": "queued"},
        {"_id": "b1", "conversation": "b", "state": "active"},
    ]
    with pytest.raises(BulkWriteError) as caught:
        inbox.insert_many(batch, ordered=False)
    refused = {error["index"]: error["keyPattern"] for error in caught.value.details["writeErrors"]}
    assert refused == {1: {"conversation": 1}, 2: {"_id": 1}}
    assert [document["_id"] for document in inbox.find().sort("_id")] == ["a1", "a3", "b1"]


def test_changes_can_be_watched(inbox: Any) -> None:
    with inbox.watch(full_document="updateLookup", max_await_time_ms=50) as changes:
        inbox.insert_one({"_id": 1})
        assert next(changes)["fullDocument"] == {"_id": 1}


def test_data_and_port_are_there_again_after_a_restart(kind: str, tmp_path: Path) -> None:
    uris = []
    for number in range(2):
        with embedded(tmp_path) as running, MongoClient[dict[str, Any]](running.uri) as client:
            uris.append(running.uri)
            client["hub"]["notes"].insert_one({"_id": number})
            assert client["hub"]["notes"].count_documents({}) == number + 1
    assert uris[0] == uris[1]


def test_killed_mongod_keeps_what_it_confirmed(tmp_path: Path) -> None:
    server = DatabaseServer(find_program("mongod"), tmp_path)
    try:
        with embedded() as other:  # a set of its own beside it
            server.start()
            with server.connect() as client:
                config = {"_id": "hub", "members": [{"_id": 0, "host": server.address}]}
                client.admin.command("replSetInitiate", config)
                notes = client["hub"].get_collection("notes", write_concern=WriteConcern("majority", j=True))
                while not client.admin.command("hello")["isWritablePrimary"]:
                    time.sleep(0.01)
                notes.insert_one({"_id": 1})
            server.kill()
            assert server.pid is None
            server.start()
            with server.connect() as client:
                assert client["hub"]["notes"].find_one() == {"_id": 1}
            assert other.servers[0].pid is not None
    finally:
        server.kill()


def test_only_its_own_process_ends(mongodb_uri: str) -> None:
    with embedded() as running:
        pid = running.servers[0].pid
        assert pid is not None
        assert is_alive(pid)
    assert not is_alive(pid)
    with MongoClient[dict[str, Any]](mongodb_uri) as client:
        assert client.admin.command("ping")["ok"] == 1


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = """
        import time
        from whatsapp_hub.demo.embedded import embedded
        with embedded() as running:
            print(running.servers[0].pid, flush=True)
            time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # nobody is left to clean up
    )
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 15
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_three_nodes_elect_another_primary() -> None:
    with replica_set(3) as running, MongoClient[dict[str, Any]](running.uri, w="majority") as client:
        notes = client["hub"]["notes"]
        notes.insert_one({"_id": 1})
        _, port = client.primary or ("", 0)
        first = next(server for server in running.servers if server.port == port)
        first.kill()
        notes.insert_one({"_id": 2})
        assert client.primary is not None
        assert client.primary[1] != port
        first.start()
        assert {note["_id"] for note in notes.find()} == {1, 2}


# --- Which program, and what is said when none runs ------------------------------------------------------------------


def test_mongod_on_the_path_comes_first_and_the_fallback_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HUB_EMBEDDED", raising=False)
    mine = write_script(tmp_path / "mongod", "")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    programs = list(find_programs())
    assert programs[0] == Program(kind="mongod", path=mine, origin="on the PATH")
    assert programs[-1].kind == "secantusd-py"


def test_program_that_does_not_run_is_passed_over_and_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HUB_EMBEDDED", raising=False)
    words = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file: No such file"
    mine = write_script(tmp_path / "mongod", f"raise SystemExit({words!r})")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with embedded() as running:
        assert running.origin != "on the PATH"
        assert running.passed_over == (
            (
                f"mongod (on the PATH): {mine} ended at once: libcurl.so.4 is missing;"
                " install the package libcurl4 (apt-get install libcurl4)"
            ),
        )


def test_fallback_is_taken_when_there_is_no_mongod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HUB_EMBEDDED", raising=False)
    monkeypatch.setattr("whatsapp_hub.demo.embedded.WHEELS", ())
    write_script(tmp_path / "mongod", "raise SystemExit(1)")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with embedded() as running:
        assert running.kind == FALLBACK
        assert str(running).startswith("secantusd-py 0.")
        with MongoClient[dict[str, Any]](running.uri) as client:
            assert client.admin.command("hello")["setName"]


def test_failure_names_what_was_tried_and_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = write_script(tmp_path / "mongod", "raise SystemExit('no space left on device')")
    monkeypatch.setenv("HUB_EMBEDDED", str(broken))
    with pytest.raises(EmbeddedFailed) as caught, embedded():
        raise AssertionError
    assert str(caught.value) == (
        "no database could be started; tried:\n"
        f"  mongod (named by HUB_EMBEDDED): {broken} ended at once: exit status 1, no space left on device\n"
        "Mend what is named above, put a mongod on the PATH, or install what comes along:"
        " pip install 'whatsapp-hub[embedded]'"
    )


def test_program_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_EMBEDDED", "no-such-program")
    with pytest.raises(EmbeddedFailed, match="HUB_EMBEDDED: no program 'no-such-program'"), embedded():
        raise AssertionError


def test_folder_whose_port_is_in_use_is_refused(tmp_path: Path) -> None:
    server = DatabaseServer(find_program("mongod"), tmp_path)
    with socket.create_server(("127.0.0.1", server.port)), pytest.raises(EmbeddedFailed, match="is in use; stop what"):
        server.start()


@pytest.mark.parametrize(
    ("status", "output", "words"),
    [
        (127, "x: libssl.so.3: cannot open shared object file", "libssl.so.3 is missing; install the package libssl3"),
        (127, "x: libfoo.so.1: cannot open shared object file", "libfoo.so.1 is missing"),
        (-4, "", "this processor lacks instructions that it needs (AVX)"),
        (14, '{"s":"I","msg":"starting"}\n{"s":"E","msg":"Failed","attr":{"error":"no space"}}\n{"s":"I","msg":"bye"}',
         "exit status 14, Failed no space"),
        (1, "", "exit status 1"),
    ],
)  # fmt: skip
def test_end_of_a_database_is_explained(status: int, output: str, words: str) -> None:
    assert explain_end(status, output).startswith(words)


def test_database_that_is_gone_cannot_be_reached() -> None:
    with embedded() as running:
        pass
    with (
        MongoClient[dict[str, Any]](running.uri, serverSelectionTimeoutMS=100) as client,
        pytest.raises(PyMongoError),
    ):
        client.admin.command("ping")
