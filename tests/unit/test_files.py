"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from lumigator_nb.files import whole_file


def test_a_file_is_there_when_the_block_has_ended_and_not_before(tmp_path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_first_stays_where_it_is_not_to_be_replaced(tmp_path) -> None:
    path = tmp_path / "secret"
    with whole_file(path, over=False) as file:
        file.write(b"first")
    with whole_file(path, over=False) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_only_the_owner_may_read_what_is_written_so(tmp_path) -> None:
    path = tmp_path / "secret"
    path.touch(mode=0o666)
    with whole_file(path, 0o600) as file:
        assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("*.part")] == [0o600]
        file.write(b"key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
