"""Command line of the plugin: ``python -m basicsr_plugin {train,test,run,link,unlink,options} ...``."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import textwrap
from pathlib import Path

from basicsr_plugin import register
from basicsr_plugin.compat import drop_ins
from basicsr_plugin.options import files

__all__ = ["main"]

_PASSED_ON = {
    "train": "train, in the working directory or --root DIR; --check only tries everything out, --force takes "
    "the folder from another run; other arguments are BasicSR's",
    "test": "test, likewise",
    "run": "run SCRIPT, an unmodified train.py or test.py of BasicSR, with the plugin; other arguments are its own",
}


def main(argv: list[str] | None = None) -> None:
    """Run one command.

    Args:
        argv: Arguments without the program's name; by default those of the process.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in _PASSED_ON and argv[1:] not in (["-h"], ["--help"]):
        _pass_on(argv[0], argv[1:])
        return
    arguments = _build_parser().parse_args(argv)
    try:
        if arguments.command == "link":
            _report("wrote", drop_ins.link(arguments.checkout))
        elif arguments.command == "unlink":
            _report("removed", drop_ins.unlink(arguments.checkout))
        elif arguments.copy is not None:
            _report("wrote", [files.copy_option(arguments.copy, arguments.to)])
        else:
            for name in files.list_options():
                text = textwrap.fill(files.describe_option(name), 96, initial_indent="    ", subsequent_indent="    ")
                sys.stdout.write(f"{name}\n{text}\n")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m basicsr_plugin", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in _PASSED_ON.items():
        commands.add_parser(name, help=text, description=text)
    for name, text in (
        ("link", "let a BasicSR checkout's own scripts find the plugin, by two files added to it"),
        ("unlink", "remove these files"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("checkout", type=Path, help="folder that contains basicsr/")
    options = commands.add_parser("options", help="list or copy the shipped option files")
    action = options.add_mutually_exclusive_group(required=True)
    action.add_argument("--list", action="store_true", help="list them with what each is for")
    action.add_argument("--copy", metavar="NAME", help="copy one for editing")
    options.add_argument("--to", type=Path, default=Path(), metavar="DIR", help="where to (working directory)")
    return parser


def _report(verb: str, items: list[Path]) -> None:
    for item in items:
        sys.stdout.write(f"{verb} {item}\n")


def _pass_on(command: str, arguments: list[str]) -> None:
    """Hand the command line to the script behind a command."""
    if command == "run":
        if not arguments or not Path(arguments[0]).is_file():
            sys.exit(f"error: run needs a script, got {arguments[0] if arguments else 'nothing'}")
        _run_script(Path(arguments[0]), arguments[1:])
        return
    from basicsr_plugin import test, train

    sys.argv = [f"basicsr_plugin {command}", *arguments]
    (train if command == "train" else test).main()


def _run_script(script: Path, arguments: list[str]) -> None:
    """Run a BasicSR script as ``python SCRIPT`` would, with the plugin registered and BasicSR repaired."""
    package = script.resolve().parent
    if package.name == "basicsr" and (package / "__init__.py").is_file():
        # The script goes with the checkout that it lies in, whether or not that one is installed.
        sys.path.insert(0, os.fspath(package.parent))
    register()
    sys.argv = [os.fspath(script), *arguments]
    runpy.run_path(os.fspath(script), run_name="__main__")


if __name__ == "__main__":
    main()
