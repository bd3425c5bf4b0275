"""Group documents by the concepts of an axis that the user chooses.

Which concepts count is in `axis`; where documents lie by them in `coordinates`; how they are grouped in `methods`, and
how many groups there are in `auto`; how groups merge in `hierarchy`; what sets them apart in `naming`, and which
documents show it in `examples`; how far to trust them in `quality`; new documents in `saved`.
"""

from saelens_data.cluster.result import ClusterResult
from saelens_data.cluster.run import cluster

__all__ = ["ClusterResult", "cluster"]
