"""Words to concepts: `find` looks a phrase up in the reader's `space`, or in that of the labels (`label_space`)."""

from saelens_data.concepts.find import ConceptsResult, cosines, find_concepts, notes_on_fit, read_phrase

__all__ = ["ConceptsResult", "cosines", "find_concepts", "notes_on_fit", "read_phrase"]
