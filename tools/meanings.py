"""Write what the concepts of an encoder are about, which `correlate` compares them by.

    python tools/meanings.py [ENCODER]

Reads the encoder's examples with its own reader, and writes `meanings.npy` beside them: some minutes for the bundled one.
"""

from __future__ import annotations

import sys

from saelens_data.encoders import find_encoder, load_encoder
from saelens_data.encoders.meaning import write_meanings


def main(name: str) -> None:
    """Embed and write."""
    encoder = load_encoder(name)
    write_meanings(find_encoder(name), encoder.reader.embed, encoder.concepts.height)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["minilm-8k"]))
