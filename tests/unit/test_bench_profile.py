from __future__ import annotations

from bench.profile import find_layer, read_samples


def test_samples_are_added_up_by_function_layer_and_caller() -> None:
    profile = read_samples(
        [
            "main (asyncio/runners.py:118);accept (whatsapp_hub/inbox/journal.py:90);encode (bson/__init__.py:7) 3",
            "main (asyncio/runners.py:118);accept (whatsapp_hub/inbox/journal.py:95) 1",
        ]
    )
    assert profile.samples == 4
    assert profile.functions == {"bson/__init__: encode": 0.75, "whatsapp_hub/inbox/journal: accept": 0.25}
    assert profile.callers == {"whatsapp_hub/inbox/journal: accept": 1.0}
    assert profile.within == {"whatsapp_hub/inbox/journal: accept": 1.0}
    assert profile.layers == {"database driver (Motor, PyMongo, bson)": 0.75, "the hub": 0.25}


def test_layer_is_that_of_the_innermost_known_file() -> None:
    assert find_layer(["whatsapp_hub/app.py", "json/decoder.py"]) == "the hub"
    assert find_layer(["whatsapp_hub/app.py", "aiohttp/client_reqrep.py"]) == "HTTP client (aiohttp)"
    assert find_layer(["runpy.py"]) == "other"
