"""Repairs of BasicSR."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import basicsr_plugin
from basicsr_plugin.compat import imports as compat
from clusir_modules.extras import install_hint


def run_python(code, environment, cwd, **variables):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **variables},
        cwd=cwd,
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )


def test_importing_the_plugin_imports_nothing_heavy(environment, tmp_path):
    code = "import sys, basicsr_plugin; print(sorted({'basicsr', 'torch', 'torchvision', 'cv2'} & set(sys.modules)))"
    assert run_python(code, environment, tmp_path).stdout.strip() == "[]"


def test_registering_twice_is_as_registering_once():
    from basicsr.utils import options, registry

    names = ("ARCH", "LOSS", "DATASET", "MODEL", "METRIC")
    before = {name: dict(list(getattr(registry, f"{name}_REGISTRY"))) for name in names}
    parse_options = options.parse_options
    basicsr_plugin.register()
    assert {name: dict(list(getattr(registry, f"{name}_REGISTRY"))) for name in names} == before
    assert options.parse_options is parse_options
    assert {"ClusIR", "clusir_tiny", "clusir_small", "clusir_base"} <= before["ARCH"].keys()
    assert {"L1MSSSIMLoss", "EdgeLoss"} <= before["LOSS"].keys()
    assert "RestorationModel" in before["MODEL"]


def test_a_name_that_is_taken_by_another_project_is_said_so():
    from basicsr.utils.registry import Registry

    from basicsr_plugin.compat.registration import register_once

    registry = Registry("test")
    registry.register(type("ClusIR", (), {"__module__": "other.project"}))
    with pytest.raises(ValueError, match=r"'ClusIR' of basicsr_plugin is taken .* other.project"):
        register_once(registry, type("ClusIR", (), {"__module__": "basicsr_plugin"}))


def test_a_fork_that_hides_basicsr_is_named(environment, tmp_path):
    (tmp_path / "basicsr" / "models").mkdir(parents=True)
    (tmp_path / "basicsr" / "__init__.py").touch()
    result = run_python("import basicsr_plugin; basicsr_plugin.register()", environment, tmp_path)
    assert result.returncode == 1
    assert f"ImportError: {tmp_path / 'basicsr'} hides BasicSR" in result.stderr


def test_a_missing_basicsr_is_said_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs BasicSR, which is not installed: ") as caught:
        compat.prepare()
    assert str(caught.value).endswith(f"{install_hint('basicsr')} --no-build-isolation")


def test_a_missing_distutils_is_stood_in_for(monkeypatch):
    real = compat.importlib.import_module

    def import_module(name):
        if name.startswith("distutils"):
            raise ModuleNotFoundError(name)
        return real(name)

    monkeypatch.setattr(compat.importlib, "import_module", import_module)
    monkeypatch.setitem(sys.modules, "distutils.version", None)
    compat._alias_distutils()
    version = sys.modules["distutils.version"].LooseVersion
    assert version("1.10.0") >= version("1.9")


def test_an_unbuilt_checkout_gets_its_version_from_its_file(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "basicsr.version")
    (tmp_path / "VERSION").write_text("1.4.9\n")
    compat._supply_version(tmp_path / "basicsr")
    assert sys.modules["basicsr.version"].__version__ == "1.4.9"


def make_script(monkeypatch, end=""):
    """A copy of BasicSR's train.py, other lines before its functions, as the module that runs."""
    import types

    import basicsr.train

    script = types.ModuleType("__main__")
    source = (
        Path(basicsr.train.__file__)
        .read_text()
        .replace("\n\ndef train_pipeline(", "\n\n# a comment\n\ndef train_pipeline(")
    )
    exec(compile(source.split("if __name__")[0] + end, "train.py", "exec"), script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    return script


class TestOptions:
    """Options as the scripts see them."""

    @pytest.fixture
    def parse(self, options, save_options, tmp_path, monkeypatch):
        from basicsr.utils.options import parse_options

        def run(*arguments, change=None, is_train=True):
            file = save_options(options, tmp_path / "options.yml")
            if change is not None:
                file.write_text(change(file.read_text()))
            monkeypatch.setattr(sys, "argv", ["train", "-opt", str(file), *arguments])
            return parse_options(str(tmp_path), is_train=is_train)[0]

        return run

    def test_code_in_an_option_file_is_refused(self, parse, tmp_path):
        import yaml

        code = f"\nevil: !!python/object/apply:os.mkdir ['{tmp_path / 'evil'}']\n"
        with pytest.raises(yaml.constructor.ConstructorError, match=r"python/object/apply:os.mkdir"):
            parse(change=lambda text: text + code)
        assert not (tmp_path / "evil").exists()

    @pytest.mark.parametrize("is_train", [True, False])
    @pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped"])
    def test_a_run_whose_name_leads_elsewhere_is_refused_before_a_folder_is_made(
        self, parse, options, tmp_path, is_train, name
    ):
        before = sorted(tmp_path.rglob("*"))
        options["name"] = name
        with pytest.raises(ValueError, match="name must be a name, or a path below its folder"):
            parse(is_train=is_train)
        assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [tmp_path / "options.yml"]

    def test_numbers_with_exponents_are_numbers(self, parse):
        opt = parse("--force_yml", "train:ema_decay=1e-3", change=lambda text: text.replace("lr: 0.001", "lr: 2e-4"))
        assert opt["train"]["optim_g"]["lr"] == 2e-4
        assert opt["train"]["ema_decay"] == 1e-3

    def test_options_for_cuda_are_adapted_without_it(self, parse, options, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        options["num_gpu"] = 2
        options["datasets"]["train"].update(prefetch_mode="cuda", pin_memory=True)
        with pytest.warns(UserWarning, match="num_gpu is 2 but CUDA is not available"):
            opt = parse()
        assert opt["num_gpu"] == 0
        assert opt["datasets"]["train"]["prefetch_mode"] is None
        assert opt["datasets"]["train"]["pin_memory"] is False

    def test_options_for_cuda_are_kept_with_it(self, parse, options, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        options["num_gpu"] = 2
        assert parse()["num_gpu"] == 2

    @pytest.mark.parametrize("model_type", ["SRModel", "RestorationModel"])
    def test_only_runs_of_the_plugins_model_get_its_sampler(self, options, parse, model_type, monkeypatch):
        script = make_script(monkeypatch)
        options["model_type"] = model_type
        parse()
        from basicsr.data import build_dataset
        from basicsr.data.data_sampler import EnlargedSampler

        assert (script.EnlargedSampler is EnlargedSampler) == (model_type == "SRModel")
        assert (script.build_dataset is build_dataset) == (model_type == "SRModel")
        assert script.load_resume_state.stands_for is not None

    def test_what_a_script_defines_itself_stays_and_is_said(self, options, parse, monkeypatch):
        script = make_script(monkeypatch, "\n\n\ndef init_tb_loggers(opt):\n    return None\n")
        exec("class EnlargedSampler(EnlargedSampler): pass\ndef load_resume_state(opt): return 1", script.__dict__)
        own = script.EnlargedSampler, script.load_resume_state, script.init_tb_loggers
        with pytest.warns(
            UserWarning, match="the script has its own load_resume_state, EnlargedSampler, which are used"
        ):
            parse()
        assert (script.EnlargedSampler, script.load_resume_state, script.init_tb_loggers) == own
        assert script.build_model.stands_for is not None

    @pytest.mark.filterwarnings("ignore:num_gpu")
    def test_a_second_run_of_a_script_gets_functions_of_its_own(self, options, parse, monkeypatch):
        script = make_script(monkeypatch)
        parse()
        first = script.load_resume_state, script.EnlargedSampler
        parse()
        assert script.load_resume_state is not first[0]
        assert script.EnlargedSampler is not first[1]
        options["model_type"] = "SRModel"
        parse()
        assert script.EnlargedSampler.__name__ == "EnlargedSampler"

    def test_unknown_options_stop_a_run_before_it_touches_older_results(self, train, options, tmp_path):
        (tmp_path / "experiments" / "run").mkdir(parents=True)
        options["train"]["acum_iter"] = 2
        with pytest.raises(ValueError, match="unknown option 'acum_iter' in train; did you mean 'accum_iter'"):
            train(options)
        assert [path.name for path in (tmp_path / "experiments").iterdir()] == ["run"]
        assert not list((tmp_path / "experiments" / "run").iterdir())

    def test_unknown_options_of_other_models_are_left_alone(self, parse, options):
        options["model_type"] = "SRModel"
        options["train"]["acum_iter"] = 2
        assert parse()["train"]["acum_iter"] == 2

    @pytest.mark.parametrize("folder", ["results_root", "experiments_root"])
    def test_folders_elsewhere_of_other_models_are_left_to_basicsr(self, parse, options, tmp_path, folder):
        from basicsr_plugin.run.preflight import check_folders

        options["path"][folder] = str(tmp_path.parent / "other disk")
        with pytest.raises(ValueError, match=f"path.{folder} must be a folder in"):
            check_folders(options, tmp_path)
        options["model_type"] = "SRModel"
        parse()

    def test_a_key_that_stands_twice_is_an_error_for_our_model_and_a_warning_for_others(self, parse, options):
        twice = "\nname: again\n"
        with pytest.raises(ValueError, match="'name' is set twice, in line 1 and again in line"):
            parse(change=lambda text: text + twice)
        options["model_type"] = "SRModel"
        with pytest.warns(UserWarning, match="'name' is set twice.*the later value counts"):
            assert parse(change=lambda text: text + twice)["name"] == "again"

    @pytest.mark.parametrize("seed", [0, 2**31 + 5, 202601311530, 2**64 - 1])
    def test_seeds_of_any_size_are_taken_for_any_model(self, parse, options, seed):
        options["manual_seed"] = seed
        drawn = []
        for model in ("SRModel", "RestorationModel"):
            options["model_type"] = model
            assert parse()["manual_seed"] == seed
            drawn.append(torch.rand(3).tolist())
        assert drawn[0] == drawn[1]
        options["manual_seed"] = seed % 2**32
        parse()
        assert (torch.rand(3).tolist() == drawn[0]) == (seed < 2**32)
