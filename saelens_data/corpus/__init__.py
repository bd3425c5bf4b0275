"""Any source of text -> one table of documents, and of conversations the turns.

`formats` reads files, folders and frames; `layouts` says which columns hold the text, `chats` who said what, `fields`
how the text of each field is made of turns; `read` does all of it.
"""

from saelens_data.corpus.read import Corpus, read_corpus

__all__ = ["Corpus", "read_corpus"]
