"""Correlations that should not be there: concept with concept, with a column, and of one field with another."""

from saelens_data.correlate.between import correlate_between
from saelens_data.correlate.columns import correlate_with
from saelens_data.correlate.ordered import OrderedResult
from saelens_data.correlate.pairs import correlate
from saelens_data.correlate.result import CorrelateResult

__all__ = ["CorrelateResult", "OrderedResult", "correlate", "correlate_between", "correlate_with"]
