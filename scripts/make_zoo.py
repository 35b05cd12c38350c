"""Make `convcalc/zoo`: every network of keras.applications and the classics, as compressed specs.

    python scripts/make_zoo.py            # needs Keras; takes some minutes
    python scripts/make_zoo.py classics   # the classics alone

Each network of Keras is built without weights, exported as JSON and read by our own reader.
"""

from __future__ import annotations

import gzip
import inspect
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from classics import CLASSICS

from convcalc.analysis.costs import add_up
from convcalc.network import Network
from convcalc.readers.spec import read_spec, write_spec

ZOO = Path(__file__).parent.parent / "convcalc" / "zoo"


def keras_networks() -> dict[str, Any]:
    """Names of our zoo -> the functions of keras.applications that build them."""
    import keras

    functions = inspect.getmembers(keras.applications, inspect.isfunction)
    return {title.lower(): (title, build) for title, build in functions if title[0].isupper()}


def save(name: str, title: str, source: str, net: Network) -> dict[str, Any]:
    """Write one network; its entry of the index comes back."""
    spec = write_spec(net)
    spec["name"] = name
    text = json.dumps(spec, separators=(",", ":")).encode()
    # mtime 0: the same network gives the same bytes.
    (ZOO / f"{name}.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    rows = add_up(net).values()
    (spec_in,) = net.inputs.values()
    entry = {
        "title": title,
        "source": source,
        "input": list(spec_in.dims[1:]),
        "params": sum(row.params for row in rows),
        "macs": sum(row.macs for row in rows),
    }
    print(f"{name}: {entry['params']:,} parameters, {entry['macs']:,} MACs", file=sys.stderr)
    return entry


def main() -> None:
    only_classics = sys.argv[1:] == ["classics"]
    path = ZOO / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {}
    for name, (build, source) in CLASSICS.items():
        net = read_spec({"name": name, **build()})
        index[name] = save(name, name, source, net)
    if not only_classics:
        import keras

        from convcalc.readers.keras import read_config

        version = f"keras.applications, Keras {keras.__version__}"
        for name, (title, build) in keras_networks().items():
            # MobileNetV3 leaves its size open unless it is told one.
            size = {"input_shape": (224, 224, 3)} if title.startswith("MobileNetV3") else {}
            model = build(weights=None, **size)
            config = json.loads(model.to_json())
            index[name] = save(name, title, version, read_config(config))
            del model
            keras.utils.clear_session()
    path.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
