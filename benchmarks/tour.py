"""Executes docs/tour.ipynb, and keeps what it shows.

    python -m benchmarks.tour

Needs `pip install -e '.[docs]'`. Progress is left out, and the folder that the notebook wrote to.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
TIMEOUT_S = 300  # of a cell


def execute(notebook: Path) -> dict[str, Any]:
    """Returns a notebook after all its cells ran in one process; an error in one raises."""
    jupyter = ["-c", "from nbclient.cli import main; main()", "--inplace", f"--timeout={TIMEOUT_S}"]
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(notebook, folder)
        subprocess.run([sys.executable, *jupyter, copy], check=True)
        return json.loads(Path(copy).read_text(encoding="utf-8"))


def clean(notebook: dict[str, Any]) -> None:
    """Leaves out progress, times, versions and the folder that a notebook wrote to, in place."""
    notebook["metadata"].pop("language_info", None)
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [each for each in cell["outputs"] if each.get("name") != "stderr"]
            for output in cell["outputs"]:
                if "text" in output:
                    output["text"] = [re.sub(r"/\S*/run/", "run/", line) for line in output["text"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=NOTEBOOK, help="where to write it")
    args = parser.parse_args()
    notebook = execute(NOTEBOOK)
    clean(notebook)
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    args.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
