"""What the shell blocks of the documents name exists: commands, their options, option files, targets of make."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise

import pytest
from documents import ROOT, blocks

from basicsr_plugin.options.files import list_options

LINES = [
    pytest.param(line.split("#")[0].strip(), id=f"{block.name}-{number}")
    for block in blocks("bash", "sh")
    for number, line in enumerate(block.text.replace("\\\n", "").splitlines())
    if line.split("#")[0].strip()
]
OPTION_FILES = {name.rsplit("/", 1)[-1] for name in list_options()}


def check_clusir(words):
    from clusir_cli.app import main

    command = main.commands[words[0]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def check_plugin(words):
    module = words[0].removeprefix("basicsr_plugin").removeprefix(".")
    command = module or words[1]
    assert command in {"train", "test", "run", "link", "unlink", "options"}
    names = [re.sub(r"\.yml$", "", after) for flag, after in pairwise(words) if flag in ("--copy", "-opt")]
    assert [name for name in names if name not in OPTION_FILES and name not in ("...", "x")] == []


def check_make(words):
    targets = re.findall(r"^(\S+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert [word for word in words if "=" not in word and word not in targets] == []


def check_pip(words):
    extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
    section = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.optional-dependencies]")[1]
    known = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    assert {name for group in extras for name in group.split(",")} <= known


@pytest.mark.parametrize("line", LINES)
def test_a_shell_line_names_what_exists(line):
    words = shlex.split(line)
    if words[0] == "clusir":
        check_clusir(words[1:])
    elif words[0] == "make":
        check_make(words[1:])
    elif words[:2] == ["pip", "install"]:
        check_pip(words[2:])
    else:
        assert words[0] in ("python", "torchrun")
        module = words[words.index("-m") + 1]
        if module.startswith("benchmarks"):
            path = ROOT / module.replace(".", "/")
            assert (path / "__main__.py").is_file() or path.with_suffix(".py").is_file()
        else:
            check_plugin(words[words.index("-m") + 1 :])


def test_the_targets_of_make_that_the_documents_name_exist():
    named = {name for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") for name in _made_of(path)}
    assert named
    check_make(sorted(named))


def _made_of(path):
    return re.findall(r"`make ([\w-]+)`", path.read_text("utf-8"))
