"""The packages of the environment that runs this, as CycloneDX 1.6 (JSON) on stdout.

The same environment gives the same bytes: no serial number, no time.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any


def reference(distribution: metadata.Distribution) -> str:
    """The package URL (purl) of a distribution, its name as PEP 503 spells it."""
    name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    return f"pkg:pypi/{name}@{distribution.version}"


def licences(distribution: metadata.Distribution) -> list[dict[str, Any]]:
    """The SPDX expression where a package gives one, else the words it uses."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return [{"expression": expression}]
    # Some packages put the whole text into the field.
    named = (about.get("License") or "").strip().split("\n")[0][:100]
    said = [
        line.rsplit(" :: ", 1)[-1]
        for line in about.get_all("Classifier") or []
        if line.startswith("License ::")
    ]
    return [{"license": {"name": name}} for name in ([named] if named else said)]


def needed(distribution: metadata.Distribution) -> Iterator[str]:
    """Names of the packages that a distribution may require, extras and markers aside."""
    for line in distribution.requires or []:
        if "extra ==" not in line:
            yield re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]).lower()


def bill() -> dict[str, Any]:
    """The document; its subject is convcalc itself."""
    found = {
        reference(each).removeprefix("pkg:pypi/").split("@")[0]: each
        for each in metadata.distributions()
    }
    components = {
        name: {
            "type": "library",
            "bom-ref": reference(each),
            "name": name,
            "version": each.version,
            "purl": reference(each),
            "licenses": licences(each),
        }
        for name, each in sorted(found.items())
    }
    subject = {**components.pop("convcalc"), "type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": subject},
        "components": list(components.values()),
        "dependencies": [
            {
                "ref": reference(each),
                "dependsOn": sorted({reference(found[n]) for n in needed(each) if n in found}),
            }
            for _, each in sorted(found.items())
        ],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
    print()
