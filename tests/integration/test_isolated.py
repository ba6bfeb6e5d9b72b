"""A metric whose package clashes with ours gets an environment of its own on the cluster."""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pandas as pd
import pytest

import lumigator_nb as lm

pytestmark = pytest.mark.integration
# Not installed here, and small; and another version of something that is.
MODULE, REQUIREMENTS = "pyfiglet", ["pyfiglet==1.0.2", "iniconfig==2.0.0"]


@lm.metric(name="isolated")
def isolated_metric(prediction):
    import sys
    import types

    from lumigator_nb.metrics import isolated

    # A module of our own making, since the function of a test is nowhere else to be imported from.
    home = types.ModuleType("lumigator_probe")
    code = (
        "def look(payload):\n"
        "    import importlib.metadata, pyfiglet\n"
        "    return [pyfiglet.__version__, importlib.metadata.version('iniconfig'), payload['text']]\n"
    )
    exec(code, home.__dict__)
    home.look.__module__ = home.__name__
    sys.modules[home.__name__] = home
    requirements = ["pyfiglet==1.0.2", "iniconfig==2.0.0"]
    if prediction == "impossible":
        requirements = ["pyfiglet==99.99"]
    try:
        found = isolated.call("the test", "pyfiglet", requirements, home.look, {"text": prediction})
    except Exception as error:
        return lm.Score(None, f"{type(error).__name__}: {error}")
    import importlib.metadata

    return lm.Score(1.0, f"{found} beside {importlib.metadata.version('iniconfig')}")


def test_a_clashing_package_lives_in_an_environment_of_its_own(ws) -> None:
    assert importlib.util.find_spec(MODULE) is None
    ours = importlib.metadata.version("iniconfig")
    assert ours != "2.0.0"
    frame = pd.DataFrame({"example": ["possible", "again", "impossible"]})
    dataset = ws.datasets.find("isolated") or ws.datasets.upload(frame, name="isolated")
    experiment = ws.experiments.create("isolated", dataset=dataset, metrics=[isolated_metric])
    ws.workflows.launch(experiment, "baseline/copy")
    ws.wait(experiment, progress=False, check=True, timeout=500)
    reasons = ws.compare(experiment).reasons("isolated")["baseline/copy"].tolist()
    if "could be built" in reasons[0]:
        pytest.skip(f"NO PACKAGE INDEX CAN BE REACHED FROM THE CLUSTER: {reasons[0]}")
    assert reasons[0] == f"['1.0.2', '2.0.0', 'possible'] beside {ours}"
    assert reasons[1] == f"['1.0.2', '2.0.0', 'again'] beside {ours}"
    assert reasons[2].startswith("ConfigurationError: no environment could be built for the test (pyfiglet==99.99)")
    assert "PIP_INDEX_URL" in reasons[2]
