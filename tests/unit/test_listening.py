"""How many connections may come in."""

from __future__ import annotations

import pytest

from whatsapp_hub.listening import KEPT_FOR_PROBES, OTHER_FILES, most_connections


@pytest.mark.parametrize("files", [65_536, 4_096])
def test_what_goes_out_has_its_files(files: int) -> None:
    outgoing = 1_300
    assert most_connections(files, outgoing) + outgoing + OTHER_FILES + KEPT_FOR_PROBES == files


def test_with_few_files_half_of_them_are_for_what_comes_in() -> None:
    assert most_connections(256, 1_300) == 128
