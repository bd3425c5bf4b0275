"""Pages of results: one HTML file each, that needs nothing else, for readers who were not there."""

from saelens_data.report.cluster import cluster_html, write_cluster_report
from saelens_data.report.correlate import correlate_html, write_correlate_report
from saelens_data.report.many import many_html, write_many_report
from saelens_data.report.retrieve import retrieve_html, write_retrieve_report
from saelens_data.report.two import diff_html, write_diff_report

__all__ = [
    "cluster_html",
    "correlate_html",
    "diff_html",
    "many_html",
    "retrieve_html",
    "write_cluster_report",
    "write_correlate_report",
    "write_diff_report",
    "write_many_report",
    "write_retrieve_report",
]
