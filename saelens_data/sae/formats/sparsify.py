"""EleutherAI's sparsify: `cfg.json` + `sae.safetensors`, one folder for each place in the model.

As in eai-sparsify 1.3: x - b_dec, unless it is a transcoder; relu(W x + b); then the k largest, or the largest of each
of k equal groups. sae-lens's converter for these files differs in three places, none of them followed here.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from saelens_data.errors import EncoderError
from saelens_data.sae.formats.files import (
    SKIP,
    TRANSCODER,
    Options,
    described,
    in_layer,
    known,
    numbers_of,
    read_json,
    read_tensors,
    take,
)
from saelens_data.sae.model import SAE

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"


def read(folder: Path, options: Options) -> SAE:
    """Read one folder of a sparsify run."""
    config = read_json(folder / CONFIG)
    activation, transcode = config.get("activation", "topk"), bool(config.get("transcode", False))
    known(activation, ("topk", "groupmax"), folder, "activation")
    if config.get("signed"):
        raise EncoderError(f"SAE in {folder}: signed is not read: no version of sparsify that is known here has it")
    wanted = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    parts = take(read_tensors(folder / WEIGHTS), wanted, folder, optional=("W_skip",), what="sparsify SAE")
    n, d_in = parts["encoder.weight"].shape
    stated = config.get("num_latents") or d_in * int(config.get("expansion_factor", 32))
    if stated != n or config.get("d_in", d_in) != d_in:
        raise EncoderError(
            f"the SAE in {folder} has {n} latents of {d_in} inputs, {CONFIG} says {stated} of {config.get('d_in')}: "
            "the two files do not belong together"
        )
    named = re.fullmatch(r"(?:.*\.)?(?:layers|h)[._]\d+(\.mlp)?", folder.name)
    layer = numbers_of(Path(folder.name), r"(?:layers|h)[._](\d+)")
    place = None if named is None else "mlp_out" if named[1] else "resid_post"
    return SAE(
        W_enc=parts["encoder.weight"].t(),
        b_enc=parts["encoder.bias"],
        in_center=torch.zeros(d_in) if transcode else parts["b_dec"],
        W_dec=None if transcode else parts["W_dec"],
        b_dec=torch.zeros(d_in) if transcode else parts["b_dec"],
        activation="topk" if activation == "topk" else "groupmax",
        k=options.k or int(config["k"]),
        metadata=described(format="sparsify", layer=layer, hook_name=in_layer(layer, place) or folder.name),
        notes=((TRANSCODER,) if transcode else ()) + ((SKIP,) if "W_skip" in parts else ()),
    )
