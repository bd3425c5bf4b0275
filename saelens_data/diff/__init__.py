"""How sets of documents differ: two (`two`), several (`many`) or in an order (`trend`).

What is tested and how is in `comparison`; which latents are one finding in `grouping`; the lines of a result in
`findings`; what belongs together in `pairing`; what is left at equal length in `adjust`; what holds in other documents
in `holdout`; whether anything is found where nothing is in `aa_check`; a rule for CI in `gate`.
"""

from saelens_data.diff.two import DiffResult, diff

__all__ = ["DiffResult", "diff"]
