"""Sparse, interpretable concept vectors for any corpus of text, and the questions they answer."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saelens_data import datasets as datasets  # noqa: TC004
    from saelens_data.cluster import ClusterResult as ClusterResult
    from saelens_data.cluster import cluster as cluster
    from saelens_data.cluster.estimator import ConceptClusterer as ConceptClusterer
    from saelens_data.cluster.saved import assign as assign
    from saelens_data.concepts import find_concepts as find_concepts
    from saelens_data.corpus import Corpus as Corpus
    from saelens_data.corpus import read_corpus as read_corpus
    from saelens_data.correlate import CorrelateResult as CorrelateResult
    from saelens_data.correlate import OrderedResult as OrderedResult
    from saelens_data.correlate import correlate as correlate
    from saelens_data.correlate import correlate_between as correlate_between
    from saelens_data.correlate import correlate_with as correlate_with
    from saelens_data.correlate.check import permutation_check as permutation_check
    from saelens_data.diff import DiffResult as DiffResult
    from saelens_data.diff import diff as diff
    from saelens_data.diff.aa_check import aa_check as aa_check
    from saelens_data.diff.explain import explain as explain
    from saelens_data.diff.gate import gate as gate
    from saelens_data.diff.many import diff_many as diff_many
    from saelens_data.diff.many_check import aa_check_many as aa_check_many
    from saelens_data.diff.selection import select as select
    from saelens_data.diff.trend import trend as trend
    from saelens_data.encode import encode as encode
    from saelens_data.encoders import Encoder as Encoder
    from saelens_data.encoders import load_encoder as load_encoder
    from saelens_data.errors import SaelensDataError as SaelensDataError
    from saelens_data.evidence import examples as examples
    from saelens_data.labels.card import concept_card as concept_card
    from saelens_data.labels.label import label as label
    from saelens_data.labels.label import plan_labels as plan_labels
    from saelens_data.labels.places import add_labels as add_labels
    from saelens_data.labels.places import import_labels as import_labels
    from saelens_data.labels.places import prefer_labels as prefer_labels
    from saelens_data.matrix import ConceptMatrix as ConceptMatrix
    from saelens_data.matrix import Source as Source
    from saelens_data.matrix.label_table import LabelTable as LabelTable
    from saelens_data.report import write_cluster_report as write_cluster_report
    from saelens_data.report import write_correlate_report as write_correlate_report
    from saelens_data.report import write_diff_report as write_diff_report
    from saelens_data.report import write_many_report as write_many_report
    from saelens_data.report import write_retrieve_report as write_retrieve_report
    from saelens_data.results import Result as Result
    from saelens_data.retrieve import retrieve as retrieve
    from saelens_data.retrieve import retrieve_many as retrieve_many
    from saelens_data.sae.formats import read_sae as read_sae
    from saelens_data.sae.formats.releases import read_release as read_release
    from saelens_data.store import open_store as open  # noqa: A004, F401
    from saelens_data.store import verify_store as verify  # noqa: F401
    from saelens_data.store import write_store as write_store
    from saelens_data.training import train as train

#: Public name -> where it lives. Each is imported when it is first asked for, so that `import saelens_data` is quick.
_PUBLIC = {
    "ClusterResult": "cluster:ClusterResult",
    "ConceptClusterer": "cluster.estimator:ConceptClusterer",
    "ConceptMatrix": "matrix:ConceptMatrix",
    "Corpus": "corpus:Corpus",
    "CorrelateResult": "correlate:CorrelateResult",
    "DiffResult": "diff:DiffResult",
    "Encoder": "encoders:Encoder",
    "LabelTable": "matrix.label_table:LabelTable",
    "OrderedResult": "correlate:OrderedResult",
    "Result": "results:Result",
    "SaelensDataError": "errors:SaelensDataError",
    "Source": "matrix:Source",
    "aa_check": "diff.aa_check:aa_check",
    "aa_check_many": "diff.many_check:aa_check_many",
    "add_labels": "labels.places:add_labels",
    "assign": "cluster.saved:assign",
    "cluster": "cluster:cluster",
    "concept_card": "labels.card:concept_card",
    "correlate": "correlate:correlate",
    "correlate_between": "correlate:correlate_between",
    "correlate_with": "correlate:correlate_with",
    "diff": "diff:diff",
    "diff_many": "diff.many:diff_many",
    "encode": "encode:encode",
    "examples": "evidence:examples",
    "explain": "diff.explain:explain",
    "find_concepts": "concepts:find_concepts",
    "gate": "diff.gate:gate",
    "label": "labels.label:label",
    "import_labels": "labels.places:import_labels",
    "load_encoder": "encoders:load_encoder",
    "open": "store:open_store",
    "plan_labels": "labels.label:plan_labels",
    "prefer_labels": "labels.places:prefer_labels",
    "permutation_check": "correlate.check:permutation_check",
    "read_corpus": "corpus:read_corpus",
    "read_release": "sae.formats.releases:read_release",
    "read_sae": "sae.formats:read_sae",
    "retrieve": "retrieve:retrieve",
    "retrieve_many": "retrieve:retrieve_many",
    "select": "diff.selection:select",
    "train": "training:train",
    "trend": "diff.trend:trend",
    "verify": "store:verify_store",
    "write_cluster_report": "report:write_cluster_report",
    "write_correlate_report": "report:write_correlate_report",
    "write_diff_report": "report:write_diff_report",
    "write_many_report": "report:write_many_report",
    "write_retrieve_report": "report:write_retrieve_report",
    "write_store": "store:write_store",
}
__all__ = list(_PUBLIC)
__all__ += ["datasets"]  # a public module, imported as lazily


class _Package(ModuleType):
    """Keeps the public function of a name, such as `diff`, where Python would bind the submodule of that name."""

    def __getattr__(self, name: str) -> Any:
        if name == "datasets":
            return import_module("saelens_data.datasets")
        if name not in _PUBLIC:
            raise AttributeError(f"module 'saelens_data' has no attribute '{name}'")
        module, attribute = _PUBLIC[name].split(":")
        value = getattr(import_module(f"saelens_data.{module}"), attribute)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return list(__all__)


sys.modules[__name__].__class__ = _Package
