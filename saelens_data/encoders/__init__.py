"""Encoders: reader + SAE + pooling, found by name."""

from saelens_data.encoders.address import Address, Parts
from saelens_data.encoders.encoder import Encoder, pool
from saelens_data.encoders.folders import (
    CONCEPTS_FILE,
    CONFIG_FILE,
    DEFAULT_ENCODER,
    ENCODER_FILE,
    EXAMPLES_FILE,
    METRICS_FILE,
    WEIGHTS_FILE,
    bundled_encoders,
    decoder_directions,
    decoder_of,
    encoder_roots,
    find_encoder,
    identity_of,
    read_concepts,
    read_spec,
    sha256_of_file,
)
from saelens_data.encoders.load import check_encoder, encoder_identity, load_encoder

__all__ = [
    "CONCEPTS_FILE",
    "CONFIG_FILE",
    "DEFAULT_ENCODER",
    "ENCODER_FILE",
    "EXAMPLES_FILE",
    "METRICS_FILE",
    "WEIGHTS_FILE",
    "Address",
    "Encoder",
    "Parts",
    "bundled_encoders",
    "check_encoder",
    "decoder_directions",
    "decoder_of",
    "encoder_identity",
    "encoder_roots",
    "find_encoder",
    "identity_of",
    "load_encoder",
    "pool",
    "read_concepts",
    "read_spec",
    "sha256_of_file",
]
