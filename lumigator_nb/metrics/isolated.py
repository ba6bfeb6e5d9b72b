"""Calling a function of a package that cannot live beside ours: in a Ray runtime environment of its own.

Ray builds the environment at the first call, a virtual environment with the requirements over the packages that are
there, and keeps it for as long as its head lives.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lumigator_nb.errors import ConfigurationError

# Ray puts it into the environment of whatever it executes as a job.
_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def call(
    what: str,
    module: str,
    requirements: Sequence[str],
    function: Callable[[Mapping[str, Any]], Any],
    payload: Mapping[str, Any],
) -> Any:
    """Return ``function(payload)``, computed where `module` can be imported.

    Args:
        what: who needs it, for errors.
        module: of the package; where it is installed here, the function is called here.
        requirements: what pip is to install elsewhere.
        function: of a module's top level; imports what it needs itself, and nothing of ours, which may not work there.
        payload: plain values, as what is returned.

    Raises:
        ConfigurationError: the package is not here, and no environment could be built for it.
    """
    if importlib.util.find_spec(module) is not None:
        return function(payload)
    if _IN_A_JOB not in os.environ:
        raise ConfigurationError(
            f"{what} needs {requirements[0]!r}, whose requirements clash with ours, so that it is not installed here",
            "score it in a workspace, where it gets an environment of its own on the cluster: ws.evaluate(…)",
        )
    return _elsewhere(what, requirements, function, payload)


def _elsewhere(
    what: str, requirements: Sequence[str], function: Callable[[Mapping[str, Any]], Any], payload: Mapping[str, Any]
) -> Any:
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayTaskError, RuntimeEnvSetupError

    # By value: there, our package may meet versions that it does not work with.
    module = sys.modules[function.__module__]
    cloudpickle.register_pickle_by_value(module)
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, configure_logging=False)
    try:
        environment = {"pip": {"packages": list(requirements), "pip_check": False}}
        remote = ray.remote(num_cpus=0, max_retries=0, runtime_env=environment)(function)
        return ray.get(remote.remote(dict(payload)))
    except RuntimeEnvSetupError as error:
        raise ConfigurationError(
            f"no environment could be built for {what} ({', '.join(requirements)}): {_last_line(error)}",
            "give the cluster's nodes a package index (PIP_INDEX_URL), or install it into an environment apart, score "
            "there, and bring the numbers along",
        ) from None
    except RayTaskError as error:
        raise ConfigurationError(f"{what} failed in its own environment: {error.cause!r}") from None
    finally:
        ray.shutdown()
        cloudpickle.unregister_pickle_by_value(module)


def _last_line(error: Exception) -> str:
    """What pip said, out of the long story that Ray tells around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR")]
    return (told or lines or [repr(error)])[-1][:300]
