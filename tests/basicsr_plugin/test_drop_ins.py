"""Drop-in files in a BasicSR checkout."""

from __future__ import annotations

import pytest

from basicsr_plugin.compat.drop_ins import link, unlink

NAMES = {"basicsr/archs/clusir_arch.py", "basicsr/models/clusir_model.py"}


@pytest.fixture
def checkout(tmp_path):
    for folder in ("archs", "models", "utils"):
        (tmp_path / "basicsr" / folder).mkdir(parents=True)
    (tmp_path / "basicsr/utils/registry.py").touch()
    return tmp_path


def files(checkout):
    return {path.relative_to(checkout).as_posix() for path in checkout.rglob("*.py")}


def test_linking_adds_two_files_and_unlinking_removes_them(checkout):
    before = files(checkout)
    assert {path.relative_to(checkout).as_posix() for path in link(checkout)} == NAMES
    assert files(checkout) == before | NAMES
    assert len(link(checkout)) == 2
    assert len(unlink(checkout)) == 2
    assert files(checkout) == before
    assert unlink(checkout) == []


def test_files_of_others_are_neither_overwritten_nor_removed(checkout):
    theirs = checkout / "basicsr/models/clusir_model.py"
    theirs.write_text("# theirs\n")
    with pytest.raises(FileExistsError, match=r"clusir_model.py exists and was not written by this command"):
        link(checkout)
    assert not (checkout / "basicsr/archs/clusir_arch.py").exists()
    assert unlink(checkout) == []
    assert theirs.read_text() == "# theirs\n"


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    for command in (link, unlink):
        with pytest.raises(FileNotFoundError, match="is no BasicSR checkout"):
            command(tmp_path)
