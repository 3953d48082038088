"""Lets BasicSR 1.4.2 be built by Python 3.13 and newer; only on the path while the Makefile builds it.

Its setup.py runs ``exec`` on its version file inside a function and reads the result with ``locals()``, which since
Python 3.13 no longer sees what ``exec`` assigned (PEP 667).
"""

import builtins
import sys


def _locals() -> dict[str, object]:
    frame = sys._getframe(1)
    names = dict(frame.f_locals)
    if frame.f_code.co_name == "get_version" and "version_file" in frame.f_globals:
        with open(frame.f_globals["version_file"]) as file:
            exec(file.read(), names)  # noqa: S102 - what setup.py itself does
    return names


builtins.locals = _locals
