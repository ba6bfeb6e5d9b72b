"""The Ray cluster that runs workflows: one given by the settings, or a local head that the package starts itself."""

from lumigator_nb.cluster.head import LocalHead
from lumigator_nb.cluster.jobs import Cluster, connect_cluster
from lumigator_nb.cluster.states import ClusterInfo, JobState

__all__ = ["Cluster", "ClusterInfo", "JobState", "LocalHead", "connect_cluster"]
