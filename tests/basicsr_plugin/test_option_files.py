"""Shipped option files and the reading of values."""

from __future__ import annotations

import pytest
import yaml

from basicsr_plugin.options import files as option_files
from basicsr_plugin.run.preflight import check_folders, read_options


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    for name in ("train/clusir_tiny", "train/same", "test/same"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yml").write_text(f"name: {name}\n")
    monkeypatch.setattr(option_files, "options_folder", lambda: folder)
    return folder


def test_names_are_listed_in_order(shipped):
    assert option_files.list_options() == ["test/same", "train/clusir_tiny", "train/same"]


@pytest.mark.parametrize("name", ["clusir_tiny", "clusir_tiny.yml", "train/clusir_tiny", "train/clusir_tiny.yml"])
def test_a_file_is_found_by_any_form_of_its_name(shipped, name):
    assert option_files.find_option(name) == shipped / "train/clusir_tiny.yml"


@pytest.mark.parametrize(("name", "matches"), [("same", 2), ("unknown", 0), ("tiny", 0)])
def test_ambiguous_and_unknown_names_are_refused(shipped, name, matches):
    with pytest.raises(FileNotFoundError, match=f"'{name}' is no option file and names {matches} .*train/clusir_tiny"):
        option_files.find_option(name)


def test_a_copy_is_made_once_and_never_overwritten(shipped, tmp_path):
    copy = option_files.copy_option("clusir_tiny", tmp_path / "mine" / "options")
    assert copy.read_text() == "name: train/clusir_tiny\n"
    copy.write_text("edited")
    with pytest.raises(FileExistsError, match=r"clusir_tiny.yml exists"):
        option_files.copy_option("clusir_tiny", tmp_path / "mine" / "options")
    assert copy.read_text() == "edited"


@pytest.mark.parametrize("form", [["-opt", "clusir_tiny"], ["-opt=clusir_tiny"]])
def test_a_name_on_the_command_line_becomes_a_path(shipped, form):
    resolved = option_files.resolve_arguments(["train.py", *form, "--debug"])
    assert str(shipped / "train/clusir_tiny.yml") in resolved[-2]
    assert resolved[-1] == "--debug"


def test_an_existing_file_goes_before_a_shipped_one(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusir_tiny").write_text("name: mine\n")
    assert option_files.resolve_arguments(["x", "-opt", "clusir_tiny"]) == ["x", "-opt", "clusir_tiny"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("!!float 1e-4", 1e-4),
        ("None", None),
        ("~", None),
        ("True", True),
        ("[1, 2.5, a]", [1, 2.5, "a"]),
        ("experiments/run_1", "experiments/run_1"),
        ("1.2.3", "1.2.3"),
        ("", ""),
    ],
)
def test_values_of_the_command_line_get_their_types(text, value):
    found = option_files.parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_lists_of_the_command_line_are_not_run_as_code(tmp_path):
    text = f"[__import__('os').mkdir('{tmp_path / 'evil'}')]"
    option_files.parse_value(text)
    assert not (tmp_path / "evil").exists()


def test_option_files_keep_order_and_merge_anchors():
    text = "base: &base {b: 1, a: 2e3}\nz: {<<: *base, c: 1E-2}\n"
    loaded = yaml.load(text, Loader=option_files.ordered_yaml()[0])
    assert list(loaded["base"]) == ["b", "a"]
    assert dict(loaded["z"]) == {"b": 1, "a": 2000.0, "c": 0.01}
    assert yaml.dump(loaded["base"], Dumper=option_files.ordered_yaml()[1]) == "b: 1\na: 2000.0\n"


class TestHostileFiles:
    @pytest.mark.parametrize(
        "tag",
        [
            "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [written]]",
            "!!python/object/apply:os.system ['touch written']",
            "!!python/object/new:os.system ['touch written']",
            "!!python/name:os.system",
            "!!python/module:os",
            "!!python/tuple [1]",
        ],
    )
    def test_python_tags_are_refused_and_run_nothing(self, tag, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for text in (f"a: {tag}", tag, f"? {tag}\n: 1", f"base: &b {{x: {tag}}}\nuse: {{<<: *b}}"):
            with pytest.raises(yaml.YAMLError):
                yaml.load(text, Loader=option_files.ordered_yaml()[0])
        with pytest.raises(yaml.YAMLError):
            option_files.parse_value(f"[{tag}]")
        assert not (tmp_path / "written").exists()

    def test_the_loader_that_basicsr_has_by_itself_would_run_them(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        yaml.load("!!python/object/apply:os.system ['touch written']", Loader=yaml.UnsafeLoader)
        assert (tmp_path / "written").exists()

    @pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 5000, "- " * 5000])
    def test_nesting_that_would_end_the_process_is_an_error(self, text):
        with pytest.raises(yaml.YAMLError, match="nested more than 50 deep"):
            yaml.load(text, Loader=option_files.OptionLoader)

    @pytest.mark.parametrize(
        "text",
        [
            "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
            "a: &a [*a]",
            "a: &a {b: *a}",
        ],
    )
    def test_aliases_that_would_fill_the_memory_are_an_error(self, text):
        with pytest.raises(yaml.YAMLError, match="by way of aliases"):
            yaml.load(text, Loader=option_files.OptionLoader)

    def test_aliases_and_merges_as_people_use_them_work(self):
        text = "base: &base {lr: 1e-4, betas: [0.9, 0.999]}\nuse: {<<: *base, lr: 2e-4}"
        assert yaml.load(text, Loader=option_files.OptionLoader)["use"] == {"lr": 2e-4, "betas": [0.9, 0.999]}


class TestNames:
    @staticmethod
    def options(**changes):
        network = {"type": "PluginTestNet"}
        opt = {"name": "run", "model_type": "RestorationModel", "is_train": False, "network_g": network, "path": {}}
        val = {"name": "rain", "type": "PairedImageDataset"}
        return {**opt, "datasets": {"val": {**val, **changes.pop("dataset", {})}}, **changes}

    @pytest.mark.parametrize("name", ["run", "ablation/run 2", "2024.1", "..x", "ü"])
    def test_names_and_paths_below_are_accepted(self, name):
        read_options(self.options(name=name))
        read_options(self.options(dataset={"name": name}))

    @pytest.mark.parametrize("name", ["..", "../run", "a/../../b", "/etc/run", "", ".", "C:/run", "..\\run", "a\0b"])
    def test_names_that_lead_out_of_their_folder_are_refused(self, name):
        with pytest.raises(ValueError, match=r"^name must be a (name, or a path below its folder|text), got"):
            read_options(self.options(name=name))
        with pytest.raises(ValueError, match=r"^datasets.val.name must be a name"):
            read_options(self.options(dataset={"name": name}))

    @pytest.mark.parametrize("suffix", ["/../x", "a/b", ".."])
    def test_a_suffix_is_part_of_a_file_name(self, suffix):
        with pytest.raises(ValueError, match=r"^val.suffix must be a part of a file name"):
            read_options(self.options(val={"suffix": suffix}))

    def test_folders_to_write_to_lie_in_the_root_and_files_to_read_anywhere(self, tmp_path):
        read = {"pretrain_network_g": "/models/a.pth", "resume_state": "/b.state", "param_key_g": "params", "log": None}
        check_folders(self.options(path={**read, "models": str(tmp_path / "experiments" / "run")}), tmp_path)
        for folder in ("/etc/models", str(tmp_path / ".." / "models"), f"{tmp_path}x"):
            with pytest.raises(ValueError, match=r"^path.models must be a folder in"):
                check_folders(self.options(path={"models": folder}), tmp_path)


class TestDuplicates:
    @pytest.mark.parametrize(
        ("text", "key", "lines"),
        [
            ("a: 1\nb: 2\na: 3\n", "'a'", (1, 3)),
            ("train:\n  lr: 1\n  x: 2\n  lr: 3\n", "'lr'", (2, 4)),
            ("s:\n  - {name: a,\n     name: b}\n", "'name'", (2, 3)),
            ("'a': 1\na: 2\n", "'a'", (1, 2)),
            ("1: x\n0x1: y\n", "1", (1, 2)),
            ("a: &x {k: 1}\nb:\n  <<: *x\n  q: 1\n  q: 2\n", "'q'", (4, 5)),
        ],
    )
    def test_a_key_that_is_set_twice_is_named_with_both_lines(self, text, key, lines):
        with pytest.raises(ValueError, match=rf"{key} is set twice, in line {lines[0]} and again in line {lines[1]}"):
            option_files.read_option_file(text)

    def test_all_of_them_are_named(self):
        with pytest.raises(ValueError, match=r"'a' is set twice.*; 'b' is set twice"):
            option_files.read_option_file("a: 1\na: 1\nb: 1\nb: 1\n")

    def test_merges_are_no_second_time(self):
        text = "base: &b {k: 1, l: 2}\nmore: &m {k: 3}\none:\n  <<: *b\n  k: 5\ntwo:\n  <<: [*m, *b]\n"
        found = option_files.read_option_file(text)
        assert found["one"] == {"k": 5, "l": 2}
        assert found["two"] == {"k": 3, "l": 2}

    def test_keys_of_one_name_in_different_sections_are_different(self):
        assert option_files.read_option_file("a: {k: 1}\nb: {k: 2}\n") == {"a": {"k": 1}, "b": {"k": 2}}


class TestOverriding:
    def options(self):
        train = {"lr": 0.1, "optim_g": {"type": "Adam"}, "compile": "blocks"}
        return {"name": "run", "num_gpu": "auto", "path": {"pretrain_network_g": None}, "train": train}

    @pytest.mark.parametrize(
        ("entry", "place", "value"),
        [
            ("train:lr=1e-4", ("train", "lr"), 1e-4),
            ("train:lr=-2", ("train", "lr"), -2),
            ("train:betas=[0.9, 0.99]", ("train", "betas"), [0.9, 0.99]),
            ("train:x=[None, True, 1e-4, 'a', \"b\", [[]]]", ("train", "x"), [None, True, 1e-4, "a", "b", [[]]]),
            ("train:x=[a, ~]", ("train", "x"), ["a", None]),
            ("train:ema=~", ("train", "ema"), None),
            ("train:flag=False", ("train", "flag"), False),
            ("name=2024", ("name",), "2024"),
            ("name=1e3", ("name",), "1e3"),
            ("name=true", ("name",), "true"),
            ("num_gpu=0", ("num_gpu",), 0),
            ("train:compile=false", ("train", "compile"), False),
            ("path:pretrain_network_g=a=b.pth", ("path", "pretrain_network_g"), "a=b.pth"),
            ("train:optim_g:type=SGD", ("train", "optim_g", "type"), "SGD"),
        ],
    )
    def test_values_keep_their_type(self, entry, place, value):
        options = self.options()
        option_files.override(options, [entry])
        for key in place:
            options = options[key]
        assert options == value
        assert type(options) is type(value)

    @pytest.mark.parametrize(
        "entry",
        [
            'name"];open("pwned","w");opt["name=run',
            "__import__('os').mkdir('pwned'):x=1",
            "train:lr:x=1",
            "trian:lr=1",
            "lr",
            "=1",
        ],
    )
    def test_a_key_is_a_name_and_nothing_else(self, entry, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = self.options()
        if entry.startswith("name"):
            option_files.override(options, [entry])
            assert list(options) == ["name", "num_gpu", "path", "train", entry.partition("=")[0]]
        else:
            with pytest.raises(ValueError, match="--force_yml"):
                option_files.override(options, [entry])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("text", ["[__import__('os').mkdir('pwned')]", "[!!python/object/apply:os.mkdir [pwned]]"])
    def test_a_value_is_never_run(self, text, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        try:
            option_files.parse_value(text)
        except yaml.YAMLError:
            pass
        assert not list(tmp_path.iterdir())
