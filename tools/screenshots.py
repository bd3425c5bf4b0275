"""Take the pictures of reports that the pages show, from the bundled data, with a Chromium that has no window.

Usage: python tools/screenshots.py [CHROMIUM]    (writes docs/images/report.png, clusters.png, trend.png and others)
"""

from __future__ import annotations

import functools
import re
import runpy
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import saelens_data as sd

ROOT = Path(__file__).parents[1]
DATA, IMAGES = ROOT / "datasets", ROOT / "docs" / "images"


def shoot(chromium: str, page: Path, name: str, size: tuple[int, int], *, only: str = "", opened: str = "") -> None:
    """A picture of `size` pixels of a report: of those of its parts that `only` selects, one of them opened by its id."""
    html = page.read_text(encoding="utf-8")
    # The page's policy allows no style but its own; this copy is looked at once and thrown away.
    html = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", html)
    if only:
        style = f"main > :not({only}) {{display: none}} main {{padding-top: 0}} main > section {{margin-top: 1.5rem}}"
        html = html.replace("</head>", f"<style>{style}</style></head>")
    if opened:
        before, after = html.split(f'id="{opened}"')
        html = f'{before}id="{opened}"{after.replace("<details>", "<details open>", 1)}'
    page.write_text(html, encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--virtual-time-budget=5000"]
    where = [f"--window-size={size[0]},{size[1]}", f"--screenshot={IMAGES / name}", page.as_uri()]
    subprocess.run([chromium, *flags, *where], check=True, capture_output=True)  # noqa: S603
    print(f"wrote {IMAGES / name}")


def main(chromium: str) -> None:
    """Make the reports, and take a picture of each."""
    sd.encode = functools.partial(sd.encode, dtype="float32")  # the recipe's too
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        names = ("answers_a", "answers_b")
        d = sd.diff(*(sd.encode(DATA / "habits" / f"{name}.jsonl") for name in names), pair_on="prompt", names=names)
        sd.write_diff_report(replace(d, notes=(*d.notes, *sd.aa_check(d).notes)), page)
        shoot(chromium, page, "report.png", (1140, 2280), opened=f"latent-{d.findings['latent'][4]}")
        c = sd.cluster(
            sd.encode(DATA / "crossed" / "texts.jsonl"), by="writing style", without="topic", k=4, truth="style"
        )
        sd.write_cluster_report(c, page)
        shoot(chromium, page, "clusters.png", (1300, 1200), only=".map, .clusters")
        versions = runpy.run_path(str(ROOT / "recipes" / "what_changed.py"))["made_versions"]()
        sd.write_many_report(sd.trend(versions, "version", cluster_on="prompt"), page)
        shoot(chromium, page, "trend.png", (1080, 520), only=".findings")
        rows = sd.encode(sd.datasets.load("artefacts"), fields=("prompt", "response"))
        r = sd.correlate_between(rows, "prompt", "response")
        sd.write_correlate_report(r, page)
        shoot(chromium, page, "artefacts.png", (1140, 1500), opened="group-2")
        m = sd.encode(sd.datasets.load("habits"))
        sd.write_retrieve_report(sd.retrieve(m, "compares it with a football match", n=3), page)
        shoot(chromium, page, "search.png", (1140, 1000))
        page.write_text(
            f"<!DOCTYPE html><meta charset='utf-8'><main style='font: 13px sans-serif'>{d._repr_html_()}</main>",
            encoding="utf-8",
        )
        shoot(chromium, page, "notebook.png", (1140, 560))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "chromium")
