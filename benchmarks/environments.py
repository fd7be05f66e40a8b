"""The Python environments that are measured: fresh ones, made by venv and pip from the index pip is set up for."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent

PACKAGES = {
    "bare": ("pytest",),
    "recording": ("pytest-recording", "langchain-openai"),
    "ours": (str(CHECKOUT), "langchain-openai"),
    "spread": (str(CHECKOUT), "pytest-xdist"),
}
"""What each environment has, by its name."""

PLUGINS = {
    "bare": (),
    "recording": ("-p", "recording"),
    "ours": ("-p", "pytest_tokenbudget"),
    "spread": ("-p", "pytest_tokenbudget", "-p", "xdist"),
}
"""pytest's options for the one plugin of each environment; all others are off."""


@dataclass(frozen=True, slots=True)
class Environments:
    """Environments in one folder, each made when it is first asked for.

    Attributes:
        folder: where they are, and stay, for as long as the folder does.
        interpreter: takes the place of all of them, for a quick look; its own packages are what is measured.
    """

    folder: Path
    interpreter: str | None = None

    def python(self, name: str) -> str:
        """The interpreter of an environment."""
        if self.interpreter is not None:
            return self.interpreter
        python = self.folder / name / "bin" / "python"
        if not python.exists():
            print(f"installing {', '.join(PACKAGES[name])} ...", file=sys.stderr)
            venv.create(self.folder / name, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        return str(python)

    def versions(self) -> str:
        """The versions of what is compared."""
        script = (
            "import platform; from importlib.metadata import version\n"
            "names = 'pytest', 'vcrpy', 'pytest-recording', 'langchain-core', 'langchain-openai', 'openai'\n"
            "print('CPython ' + platform.python_version(), *(f'{n} {version(n)}' for n in names), sep=', ')"
        )
        python = self.python("recording")
        return subprocess.run([python, "-c", script], check=True, capture_output=True, text=True).stdout.strip()


def variables(*, autoload: bool = False) -> dict[str, str]:
    """The environment variables of everything that is measured: none that would change what a client does.

    Args:
        autoload: whether pytest takes all the plugins that are installed, as it does by itself.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), kept.get("PYTHONPATH"))))
    kept |= {"PYTHONHASHSEED": "0", "OPENAI_API_KEY": "sk-none"}
    return kept if autoload else kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
