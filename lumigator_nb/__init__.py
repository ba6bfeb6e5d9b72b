"""Compare language models on your own data: ``import lumigator_nb as lm; ws = lm.connect()``.

Names are loaded when first used (PEP 562), so that importing the package stays fast and a cluster worker loads no
database or user-interface library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lumigator_nb._version import __version__ as __version__

_HOMES = {
    "compare": "services.elsewhere.compare",
    "connect": "workspace",
    "Workspace": "workspace",
    "Settings": "config",
    "Model": "specs",
    "GenerationConfig": "specs",
    "Task": "specs",
    "Summarization": "specs",
    "Translation": "specs",
    "TextGeneration": "specs",
    "Classification": "specs",
    "Shot": "specs",
    "estimate": "services.workflows.estimates",
    "gate": "workspace.gate_files",
    "plan": "statistics",
    "MetricSpec": "specs",
    "Status": "specs",
    "Comparison": "services.comparison.comparison",
    "LumigatorError": "errors",
    "score": "metrics",
    "metric": "metrics",
    "Check": "metrics",
    "Judge": "metrics",
    "Jury": "metrics",
    "Score": "metrics",
}
_MODULES = {"errors": "errors", "metrics": "metrics", "statistics": "statistics", "ui": "widgets"}

if TYPE_CHECKING:
    from lumigator_nb import errors as errors
    from lumigator_nb import metrics as metrics
    from lumigator_nb import statistics as statistics
    from lumigator_nb import widgets as ui
    from lumigator_nb.config import Settings
    from lumigator_nb.errors import LumigatorError
    from lumigator_nb.metrics import Check, Judge, Jury, Score, metric, score
    from lumigator_nb.services.comparison.comparison import Comparison
    from lumigator_nb.services.elsewhere.compare import compare
    from lumigator_nb.services.workflows.estimates import estimate
    from lumigator_nb.specs import (
        Classification,
        GenerationConfig,
        MetricSpec,
        Model,
        Shot,
        Status,
        Summarization,
        Task,
        TextGeneration,
        Translation,
    )
    from lumigator_nb.statistics import plan
    from lumigator_nb.workspace import Workspace, connect
    from lumigator_nb.workspace.gate_files import gate

__all__ = [
    "Check",
    "Classification",
    "Comparison",
    "GenerationConfig",
    "Judge",
    "Jury",
    "LumigatorError",
    "MetricSpec",
    "Model",
    "Score",
    "Settings",
    "Shot",
    "Status",
    "Summarization",
    "Task",
    "TextGeneration",
    "Translation",
    "Workspace",
    "__version__",
    "compare",
    "connect",
    "errors",
    "estimate",
    "gate",
    "metric",
    "metrics",
    "plan",
    "score",
    "statistics",
    "ui",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
