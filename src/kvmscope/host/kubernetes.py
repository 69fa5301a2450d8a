"""The name of a pod whose uid is known, from the directories that kubelet keeps for the logs of pods.

The API server is not queried: ``/var/log/pods`` has a directory ``NAMESPACE_POD_UID`` for each pod of the node.
Source: kubelet, pkg/kubelet/kuberuntime/helpers.go (BuildPodLogsDirectory), Kubernetes 1.14 and later.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from .process import VmmProcess

_LOGS: Final = "var/log/pods"


def with_pod_name(process: VmmProcess, *, root: str = "/") -> VmmProcess:
    """The process with the names of its pod and the pod's namespace, if it is in one and kubelet's logs are there."""
    known_as = dict(process.known_as)
    uid = known_as.get("kubernetes.pod_uid")
    found = _pod(uid, Path(root, _LOGS)) if uid else None
    if found is None:
        return process
    namespace, pod = found
    names = {"kubernetes.namespace": namespace, "kubernetes.pod": pod}
    return replace(process, known_as=tuple({**known_as, **names}.items()))


def _pod(uid: str, logs: Path) -> tuple[str, str] | None:
    """The namespace and name of a pod; neither contains an underscore."""
    try:
        entries = [entry.name for entry in logs.iterdir()]
    except OSError:
        return None
    parts = (entry.split("_") for entry in entries if entry.endswith(f"_{uid}"))
    return next(((part[0], part[1]) for part in parts if len(part) == 3), None)
