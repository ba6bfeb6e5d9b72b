"""Whether a cluster's versions go with ours. Pure functions.

Workers run with the cluster's Python and packages, and with the package that we ship. What Ray we have does not matter
to them, nor to the Jobs API, which is plain HTTP.
"""

from __future__ import annotations

# As in pyproject.toml, which is not there where the package is installed.
LEAST_PYTHON = (3, 11)
LEAST_RAY = (2, 54)


def misfit(ray: str, python: str) -> tuple[str, str] | None:
    """Return what is wrong with a cluster's versions and what to do about it; None where nothing is.

    Args:
        ray, python: as the cluster tells them, such as "2.60.0" and "3.11.7".
    """
    wrong = [
        f"{name} {has}, older than {_text(least)}"
        for name, has, least in (("Python", python, LEAST_PYTHON), ("Ray", ray, LEAST_RAY))
        if minor(has) < least
    ]
    if not wrong:
        return None
    return (
        f"the cluster's nodes have {' and '.join(wrong)}, and this package needs at least that",
        f"use an image for all nodes with Python {_text(LEAST_PYTHON)} and Ray {_text(LEAST_RAY)} or newer, such as "
        f"rayproject/ray:{_text(LEAST_RAY)}.0-py{''.join(map(str, LEAST_PYTHON))}, with lumigator-nb installed",
    )


def minor(version: str) -> tuple[int, int]:
    """Return major and minor number; (0, 0) where they are none, as in a build of somebody's own."""
    try:
        major, second = (int(part) for part in version.split(".")[:2])
    except ValueError:
        return (0, 0)
    return (major, second)


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
