"""ConceptMatrix: documents x concepts, the object that every analysis reads and none writes; and its parts."""

from saelens_data.matrix.concept_matrix import CONCEPT_SCHEMA, DOC_COLUMNS, ConceptMatrix, Keeper
from saelens_data.matrix.evidence import Evidence, Units
from saelens_data.matrix.filters import mask_of
from saelens_data.matrix.source import Source
from saelens_data.matrix.sparse import canonical_csr

__all__ = [
    "CONCEPT_SCHEMA",
    "DOC_COLUMNS",
    "ConceptMatrix",
    "Evidence",
    "Keeper",
    "Source",
    "Units",
    "canonical_csr",
    "mask_of",
]
