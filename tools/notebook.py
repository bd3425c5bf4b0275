"""Run recipes/notebook.ipynb from top to bottom and keep what its cells show, charts as pictures.

Usage: python tools/notebook.py (needs: pip install vl-convert-python pillow)

Where notebooks are shown on the web no script runs, so that a chart is seen there only as a picture.
"""

from __future__ import annotations

import io
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

PATH = Path(__file__).parents[1] / "recipes" / "notebook.ipynb"
_PICTURES = 'import altair as alt\n\n_ = alt.renderers.enable("png", scale_factor=1.5)'


def run() -> nbformat.NotebookNode:
    """The notebook with the outputs of a fresh kernel."""
    notebook = nbformat.read(PATH, as_version=4)
    cells, notebook.cells = notebook.cells, [nbformat.v4.new_code_cell(_PICTURES), *notebook.cells]
    NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
    notebook.cells = cells
    number = 0
    for cell in cells:
        if cell.cell_type == "code":
            number += 1
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = smaller(output.data["image/png"])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def smaller(picture: str) -> str:
    """A picture in as few colours as a chart has."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(b64decode(picture))).convert("RGB").quantize(64).save(buffer, "PNG", optimize=True)
    return b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    nbformat.write(run(), PATH)
    print(f"{PATH.name}: {PATH.stat().st_size:,} bytes")
