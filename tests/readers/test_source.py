"""Pasted code that is wrong, hostile or not a network: clear errors, and nothing is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import convcalc
from convcalc.errors import ConvcalcError, ModelError

SNIPPETS = sorted((Path(__file__).parents[1] / "data" / "source").glob("*.py"))

HOSTILE = {
    "x = ().__class__.__bases__[0]": "'__bases__' is not allowed",
    "__import__('os').system('touch marker')": "'__import__' is not allowed",
    "open('/etc/passwd').read()": "'open' is not allowed",
    "exec('x=1')": "'exec' is not allowed",
    "eval('1+1')": "'eval' is not allowed",
    "getattr(str, '__class__')": "'getattr' is not allowed",
    "import os\nos.system('touch marker')": "builds no network",
    "while True: pass": "200,000 steps",
    "def f(n): return f(n + 1)\nf(0)": "line 1, column 18: 'f': calls are nested",
    "for i in range(10**18): pass": "200,000 steps",
    "list(range(10**12))": "10,000 items",
    "x = 10**10**10": "64 bits",
    "x = 1 << 10**9": "0 to 63 bits",
    "x = 'a' * 10**9": "longer than 65,536",
    "x = [0] * 10**9": "longer than 10,000",
    "a = [0]\nfor i in range(99): a = a + a": "longer than 10,000",
    "a = 'x'\nfor i in range(99): a = f'{a}{a}'": "longer than 65,536",
    "f'{1:1000000000}'": "the format '1000000000' is not supported",
    "'%1000000000d' % 1": "is not supported",
    "round(5, -10**9)": "20 digits",
    "a = []\nfor i in range(60): a = [a, a]\nConv2D(a, 3)": "nested too deeply",
    "a = [keras.Input((8, 8, 3))]\nfor i in range(60): a = [a, a]\nlayers.Add()(a)": "too long",
    "(" * 5000: "valid Python",
    "x = " + "-" * 60000 + "1": "",
    "x=1\n" * 20000: "64 KiB",
    "x = \0": "",
    "": "empty",
}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        convcalc.load_source(text, input=(8, 8, 3))
    assert HOSTILE[text] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nn.Conv2d(3, 8, 3)", "--input HxWxC"),
        ("Sequential([Conv2D(8, 3)])", "input="),
        ("keras.Input((None, None, 3))", "line 1, column 1: input 'input_layer' leaves its size"),
        ("n = len(data)\nDense(n)", "line 2, column 1: units of Dense depends on 'data'"),
        ("Conv2D(8, kernel=3)", "has no argument 'kernel'; did you mean 'kernel_size'?"),
        ("x = keras.Input((8, 8, 3))\nx = mine(x)", "line 2, column 5: 'mine' of a tensor"),
        ("x = keras.Input((4, 4, 3))\nConv2D(8, 5)(x)", "line 2, column 1"),
        ("def model(classes): return Sequential()", "add the line that calls it"),
        ("x = 1\n  y", "line 2"),
        ("if True: return Dense(3)", "'return' outside of what it leaves"),
        ("def f():\n    break\nfor i in range(2): f()", "line 3, column 20: 'break' or 'continue'"),
        (
            "Sequential([keras.applications.ResNet50(include_top=False), Dense(5)])",
            "line 1, column 1: keras.applications.ResNet50 is known as a whole only",
        ),
    ],
)
def test_what_cannot_be_read_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        convcalc.load_source(text)
    assert message in str(caught.value)


def test_sizes_that_do_not_fit_a_module() -> None:
    with pytest.raises(ModelError, match="in_features=10, but its input 1x12 has 12"):
        convcalc.load_source("nn.Sequential(nn.Flatten(), nn.Linear(10, 2))", input=(2, 2, 3))


def test_nothing_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, convcalc\n"
        "for text in ('from keras.layers import *\\nimport antigravity\\nDense(3)',"
        " 'import torch, os\\nnn.Linear(3, 2)\\nos.mkdir(\"marker\")'):\n"
        "    assert len(convcalc.load_source(text, input=(3,)).ops) == 1\n"
        "names = {'keras', 'tensorflow', 'torch', 'antigravity', 'numpy'}\n"
        "assert not names & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@settings(max_examples=40)
@given(st.data())
def test_changed_snippets_are_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(SNIPPETS)).read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    piece = data.draw(
        st.sampled_from(["", "0", "-1", "[]", "None", "x", "'a'", "(", "10**9", "\n"])
    )
    try:
        net = convcalc.load_source(text[:start] + piece + text[end:], input=(32, 32, 3))
    except ConvcalcError as error:
        assert str(error)  # noqa: PT017
    else:
        assert net.outputs


def test_command_line(tmp_path: Path) -> None:
    from convcalc.cli import app

    file = tmp_path / "layer.py"
    file.write_text('Conv2D(200, 5, padding="same")', encoding="utf-8")
    size = ["--input", "150x100x3", "--json"]
    runner = CliRunner()
    named = runner.invoke(app, ["analyze", "--source", str(file), *size])
    piped = runner.invoke(app, ["analyze", "--source", "-", *size], input=file.read_text())
    assert '"params": 15200' in named.stdout
    assert named.stdout == piped.stdout
    exported = runner.invoke(app, ["export", "--source", str(file), "--input", "150x100x3"])
    assert convcalc.analyze(json.loads(exported.stdout)).totals.params == 15200
    assert "either MODEL or --source" in str(runner.invoke(app, ["analyze"]).exception)
