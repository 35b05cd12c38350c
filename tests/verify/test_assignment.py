"""XLA's texts read as a timeline."""

from __future__ import annotations

from pathlib import Path

from convcalc.verify.assignment import events, plain, read
from convcalc.verify.request import Event

MODULE = """
ENTRY %main (weights_0_.1: f32[10], x.1: f32[20]) -> (f32[10], f32[30]) {
  %weights_0_.1 = f32[10]{0} parameter(0), metadata={op_name="weights[0]"}
  %x.1 = f32[20]{0} parameter(1), metadata={op_name="inputs[0]"}
  %copy.1 = f32[10]{0} copy(%weights_0_.1)
  %conv.1 = (f32[25]{0}, u8[0]{0}) custom-call(%x.1, %copy.1), metadata={op_name="jvp(a)/conv"}
  %tanh.1 = f32[25]{0} tanh(%conv.1), metadata={op_type="t" op_name="jit(t)/jvp(a)/tanh"}
  %mul.1 = f32[30]{0} multiply(%tanh.1, %x.1), metadata={op_name="jit(t)/transpose(jvp(a))/mul"}
  ROOT %tuple.1 = (f32[10]{0}, f32[30]{0}) tuple(%add.1, %mul.1)
}
"""

BUFFERS = """BufferAssignment:
allocation 0: size 40, parameter 0, shape |f32[10]| at ShapeIndex {}, maybe-live-out:
 value: <1 weights_0_.1 @0> (size=40,offset=0): f32[10]{0}
 value: <9 add.1 @0> (size=40,offset=0): f32[10]{0}
allocation 1: size 80, parameter 1, shape |f32[20]| at ShapeIndex {}:
 value: <2 x.1 @0> (size=80,offset=0): f32[20]{0}
allocation 2: size 120, maybe-live-out:
 value: <7 mul.1 @0> (size=120,offset=0): f32[30]{0}
allocation 3: size 4, thread-local:
 value: <8 p.1 @0> (size=4,offset=0): f32[]
allocation 4: size 160, preallocated-temp:
 value: <3 copy.1 @0> (size=40,offset=0): f32[10]{0}
 value: <4 conv.1{} @0> (size=16,offset=144): (f32[25]{0}, u8[0]{0})
 value: <5 conv.1{0} @0> (size=100,offset=40): f32[25]{0}
 value: <6 tanh.1 @0> (size=100,offset=40): f32[25]{0}
"""

RANGES = """HloLiveRange (max 7):
  InstructionSequence:
    0:weights_0_.1
  BufferLiveRange:
    weights_0_.1{}:0-6
    x.1{}:0-7
    copy.1{}:2-3
    conv.1{}:3-3
    conv.1{0}:3-4
    tanh.1{}:4-5
    mul.1{}:5-7
    add.1{}:6-7
  Live ranges at 3 (peak):
    copy.1{}: 40 bytes (cumulative: 40 bytes)
"""


def test_values_come_and_go_with_the_schedule() -> None:
    found = events(MODULE, BUFFERS, RANGES, {"weights[0]": "a/kernel"})
    assert found == [
        Event(2, "a/kernel", 160, 40, "copy"),
        Event(3, "a/conv", 176, 16, "custom-call"),
        Event(3, "a/conv", 276, 100, "custom-call"),
        Event(4, "a/kernel", 236, -40, "copy"),
        Event(4, "a/conv", 220, -16, "custom-call"),
        # The activation takes the convolution's place: no bytes of its own.
        Event(5, "gradient/a/mul", 340, 120, "multiply"),
        Event(6, "a/tanh", 240, -100, "tanh"),
        Event(8, "gradient/a/mul", 120, -120, "multiply"),
    ]


def test_an_unnamed_argument_keeps_jaxs_name() -> None:
    assert events(MODULE, BUFFERS, RANGES)[0].op == "weights[0]"


def test_jaxs_transformations_are_left_out_of_names() -> None:
    assert plain("jit(train)/jvp(conv_3)/add") == "conv_3/add"
    assert plain("jit(train)/jvp(loss)/jit(clip)/select_n") == "loss/select_n"
    assert plain("jit(train)/transpose(jvp(conv_3))/reduce_sum") == "gradient/conv_3/reduce_sum"
    assert plain("jit(train)/adam/sub") == "adam/sub"
    assert plain("jit(train)/jvp()") == "jit(train)/jvp()"


def test_the_largest_module_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, {}) == []
    (tmp_path / "m.cpu_after_optimizations.txt").write_text(MODULE)
    assert read(tmp_path, {}) == []
    (tmp_path / "m.cpu_after_optimizations-buffer-assignment.txt").write_text(BUFFERS)
    (tmp_path / "m.cpu_after_optimizations-live-range.txt").write_text(RANGES)
    (tmp_path / "a.cpu_after_optimizations.txt").write_text("")
    assert read(tmp_path, {}) == events(MODULE, BUFFERS, RANGES)
