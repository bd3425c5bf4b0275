"""Record what the oracle libraries give for every case: `make record-oracle`, after a change of cases or versions."""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from oracle.cases import CASES, oracle

RECORDED = Path(__file__).parents[1] / "data" / "sae_oracle.safetensors"


def main() -> None:
    found = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            case.write(Path(folder))
            found[case.name] = oracle(case, Path(folder)).contiguous()
            print(case.name, tuple(found[case.name].shape), int((found[case.name] != 0).sum()))
    libraries = ("sae-lens", "eai-sparsify", "torch")
    save_file(found, RECORDED, metadata={name: version(name) for name in libraries})


if __name__ == "__main__":
    main()
