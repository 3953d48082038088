"""Is the library right on this GPU, and how fast? One line a question; ends in time, with exit code 1 if one is wrong.

Needs torch, numpy, pillow, timm, safetensors and, for the tests that are marked gpu, pytest and hypothesis; no BasicSR,
no network. Writes ``gpu.json`` and ``gpu.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib.util
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic algorithms

ROOT = Path(__file__).parents[2]
STANDINS = Path(__file__).parent / "standins"
if importlib.util.find_spec("pywt") is None:
    sys.path.append(str(STANDINS))

import torch  # noqa: E402 - after its settings

from . import questions, timings  # noqa: E402
from .report import write  # noqa: E402
from .setting import Setting  # noqa: E402

SECTIONS = {"networks": 60, "operators": 30, "degradations": 15, "capture": 45}
"""Kinds of questions, and the seconds that each may take at most."""
FORMS = dict(zip(timings.FORMS, (40, 20, 50, 60, 40), strict=True))
"""Likewise what is measured; all together may take longer than there is time, the last are left out then."""
TEST_SECONDS = 15
SECONDS = 230.0


class Late(BaseException):
    """The time of a section is over; not an Exception, which torch would handle on the way."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise Late in the block when the time is over."""

    def ring(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Check:
    """The whole run.

    Args:
        at: Device and sizes.
        seconds: Time for everything.
        results: Folder of the files.
    """

    def __init__(self, at: Setting, seconds: float, results: Path) -> None:
        self.at = at
        self.results = results
        self.start = time.monotonic()
        self.end = self.start + seconds
        self.scale = seconds / SECONDS
        self.answers: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def say(self, verdict: str, text: str) -> None:
        print(f"{verdict:6s} {text} [{time.monotonic() - self.start:.0f} s]", flush=True)

    def answer(self, name: str, verdict: str, detail: str) -> None:
        """Print an answer and keep it."""
        self.answers.append({"question": name, "verdict": verdict, "detail": detail})
        self.say(verdict, f"{name}: {detail}")

    def left(self, seconds: float) -> float:
        """So many seconds of the usual time for everything, but no more than are left."""
        return min(seconds * self.scale, self.end - time.monotonic())

    def ask(self, section: str, seconds: float) -> None:
        """All questions of a section; those that the time does not suffice for count as wrong."""
        current = f"the questions about {section}"
        try:
            with deadline(self.left(seconds)):
                for question in getattr(questions, section)(self.at):
                    current = question.name
                    if question.needs_gpu and self.at.cpu:
                        continue
                    self.ask_one(question)
        except Late:
            self.answer(current, "LATE", "no answer in time, and none to what follows in its section")
        except Exception as error:
            self.answer(current, "WRONG", f"{type(error).__name__}: {error}"[:500])

    def ask_one(self, question: questions.Question) -> None:
        try:
            error = question.ask()
        except Exception as error:
            self.answer(question.name, "WRONG", f"{type(error).__name__}: {error}"[:500])
            return
        right = error <= question.bound
        self.answer(question.name, "ok" if right else "WRONG", f"{error:.1e}, at most {question.bound:g}")

    def run_tests(self, seconds: float) -> None:
        """The tests that are marked gpu, as many as there is time for."""
        paths = [
            str(path)
            for path in sorted((ROOT / "tests").rglob("test_*.py"))
            if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
            and ("basicsr_plugin" not in path.parts or importlib.util.find_spec("basicsr") is not None)
        ]
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--no-header", "-p", "no:cacheprovider", *paths]
        with_standins = [str(ROOT), *([str(STANDINS)] if str(STANDINS) in sys.path else [])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(with_standins)}
        tests = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            output, ended = tests.communicate(timeout=self.left(seconds))[0], ""
        except subprocess.TimeoutExpired:
            tests.terminate()
            output, ended = tests.communicate()[0], ", then the time was over"
        passed, failed = (len(re.findall(rf"::.* {word} ", output)) for word in ("PASSED", "FAILED"))
        right = passed > 0 and failed == 0 and (ended or tests.returncode == 0)
        self.answer("tests that are marked gpu", "ok" if right else "WRONG", f"{passed} passed, {failed} failed{ended}")
        if not right:
            print(output[-3000:], flush=True)

    def time(self, form: str, seconds: float) -> None:
        """Everything in one form; what takes too long is left out."""
        try:
            with deadline(self.left(seconds)):
                for row in timings.measure(self.at, form):
                    self.rows.append(row)
                    busy = f", device busy {row['device_busy']:.0%}" if "device_busy" in row else ""
                    self.say("time", f"{row['network']}, {row['work']}, {form}: {row['milliseconds']} ms{busy}")
        except Late:
            self.say("late", f"{form}: the time is over, the rest is left out")
        except Exception as error:
            self.answer(f"measuring {form}", "WRONG", f"{type(error).__name__}: {error}"[:500])

    def write(self) -> None:
        """Write the files as far as things are known."""
        device = platform.processor() or "CPU" if self.at.cpu else torch.cuda.get_device_name()
        where = {
            "device": device,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        }
        write(where, self.answers, self.rows, self.results)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="a rehearsal in small sizes, without a GPU")
    parser.add_argument("--seconds", type=float, help=f"for everything; {SECONDS:g}, or 20 times that with --cpu")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        parser.exit(1, "there is no CUDA device; --cpu rehearses without one\n")
    seconds = arguments.seconds or (20 * SECONDS if arguments.cpu else SECONDS)
    faulthandler.dump_traceback_later(seconds + 8, exit=True)  # should anything not listen to its deadline
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False  # would try algorithms for a hundred grouped convolutions, for minutes
    check = Check(Setting(arguments.cpu), seconds, arguments.results)
    for section, share in SECTIONS.items():
        check.ask(section, share)
    check.write()
    for form, share in FORMS.items():
        check.time(form, share)
        if form == "captured" and not arguments.cpu:
            check.run_tests(TEST_SECONDS)
        check.write()
    wrong = [answer for answer in check.answers if answer["verdict"] != "ok"]
    print(f"{len(check.answers) - len(wrong)} right, {len(wrong)} wrong or late; {check.results / 'gpu.md'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
