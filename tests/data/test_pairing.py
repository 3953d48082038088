from __future__ import annotations

from pathlib import Path

import pytest

from clusir_modules.data import PAIRING_RULES, pairing_rule
from clusir_modules.data.pairing import FolderIndex, find_partner, list_images


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


class TestPairingRule:
    @pytest.mark.parametrize(
        ("rule", "stem", "likeliest"),
        [
            ("same_name", "0001", "0001"),
            ("gopro", "GOPR0372_07_00-000047", "GOPR0372_07_00-000047"),
            ("cdd11", "00012", "00012"),
            ("rain100l", "rain-17", "norain-17"),
            ("rain100l", "rain_17", "norain_17"),
            ("rain100l", "rain-001", "norain-001"),
            ("rain100l", "rain-17x2", "norain-17"),
            ("rain100l", "17", "17"),
            ("dehaze", "0005_0.8_0.04", "0005"),
            ("dehaze", "1400_3", "1400"),
            ("dehaze", "0031", "0031"),
            ("lol", "22", "22"),
            ("lol", "low00690", "normal00690"),
            ("{stem}_gt", "a", "a_gt"),
            ("clean-{stem}", "a.b", "clean-a.b"),
        ],
    )
    def test_likeliest_partner(self, rule: str, stem: str, likeliest: str) -> None:
        assert pairing_rule(rule)(stem)[0] == likeliest

    @pytest.mark.parametrize(
        "name",
        [
            "same name",
            "{stem}/x",
            "../{stem}",
            "{name}_gt",
            "{stem}{0}",
            "{stem",
            "a\\{stem}",
            "{stem:>9999999999}",
            "{stem!r}",
        ],
    )
    def test_other_names_and_templates_with_folders_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="pairing must be one of"):
            pairing_rule(name)

    def test_the_standard_sets_have_rules(self) -> None:
        assert set(PAIRING_RULES) == {"same_name", "rain100l", "dehaze", "gopro", "lol", "cdd11"}


class TestFindPartner:
    def find(self, lq: Path, folder: Path, rule: str = "same_name") -> Path:
        return find_partner(lq, [folder], pairing_rule(rule), FolderIndex())

    def test_the_ending_may_differ(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "0005.PNG", "0006.jpg")
        assert self.find(Path("0005_0.8_0.04.jpg"), folder, "dehaze").name == "0005.PNG"
        assert self.find(Path("0006_1_0.2.png"), folder, "dehaze").name == "0006.jpg"

    def test_of_several_endings_the_same_one_wins_and_none_is_an_error(self, tmp_path: Path) -> None:
        folder = touch(tmp_path, "a.png", "a.jpg")
        assert self.find(Path("a.jpg"), folder).name == "a.jpg"
        with pytest.raises(ValueError, match=r"a\.bmp.*several possible partners.*a\.jpg, a\.png"):
            self.find(Path("x/a.bmp"), folder)

    def test_the_rain_rule_falls_back_to_equal_names(self, tmp_path: Path) -> None:
        assert self.find(Path("rain-3.png"), touch(tmp_path, "rain-3.png"), "rain100l").name == "rain-3.png"

    def test_a_missing_partner_is_named_with_where_it_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"rain-3\.png' has no partner named norain-3 or rain-3 in '.*'"):
            self.find(Path("rain-3.png"), tmp_path, "rain100l")

    def test_only_images_that_are_not_hidden_are_listed_in_order(self, tmp_path: Path) -> None:
        touch(tmp_path, "b.png", "a.JPG", ".c.png", "list.txt", "Thumbs.db")
        assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png"]
