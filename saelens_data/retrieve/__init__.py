"""Documents for words, for a concept query or for examples, and why each was found; measured in `docs/retrieve.md`.

`run` answers; `ranking` scores by embeddings (`dense_index` where there are many) and by concepts, `lexical` by words;
`by_example` makes weights of concepts from documents; `result` says what made each score.
"""

from saelens_data.retrieve.result import RetrieveResult
from saelens_data.retrieve.run import Mode, document_scores, retrieve, retrieve_many

__all__ = ["Mode", "RetrieveResult", "document_scores", "retrieve", "retrieve_many"]
