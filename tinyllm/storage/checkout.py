"""How to install what an extra brings, as one command that can be pasted.

tinyllm is used from a checkout, and its distribution is not on the public index. Whatever stands there under a like name
is a stranger's: so a hint names this checkout, by its path, and the interpreter that runs.
"""

import shlex
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).absolute().parents[2]  # if there is a setup.cfg; site-packages otherwise


def install_command(extra: str = "") -> str:
    """The command that installs tinyllm again, with an extra if one is named: "pip install -e '/home/me/tinyllm[serve]'"."""
    known = (CHECKOUT / "setup.cfg").is_file()
    place = str(CHECKOUT) if known else "."
    command = f"{_pip()} install -e {shlex.quote(place + (f'[{extra}]' if extra else ''))}"
    return command if known else f"{command}, in a checkout of tinyllm"


def _pip() -> str:
    """The pip of the interpreter that runs: its short name where the shell finds that one, else through the interpreter."""
    found = shutil.which("pip")
    if found and Path(found).parent == Path(sys.executable).parent:
        return "pip"
    return f"{shlex.quote(sys.executable)} -m pip"
