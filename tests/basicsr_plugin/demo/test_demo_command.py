"""The demo's command line; what it trains is in test_runs.py and `make demo`."""

from __future__ import annotations

import sys

import pytest

from basicsr_plugin.demo import __main__ as demo


def test_a_folder_with_other_files_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "psnr.csv").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        demo.main()
    assert caught.value.code == 2
    assert "holds files that are not the demo's; give another --out, or --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["psnr.csv"]


@pytest.mark.parametrize("allowed", ["empty", "missing", "earlier", "overwrite"])
def test_a_folder_of_its_own_is_taken(tmp_path, monkeypatch, allowed):
    class Started(Exception):
        pass

    def start(folder):
        raise Started

    out = tmp_path / "out"
    if allowed != "missing":
        out.mkdir()
    if allowed in ("earlier", "overwrite"):
        (out / "psnr.csv").write_text("mine")
    if allowed == "earlier":
        (out / ".clusir_demo").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "write_photographs", start)
    monkeypatch.setattr(sys, "argv", ["demo", "--out", "out", *(["--overwrite"] if allowed == "overwrite" else [])])
    with pytest.raises(Started):
        demo.main()
    assert (out / ".clusir_demo").exists()
