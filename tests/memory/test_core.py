"""The compiler's core, with an engine of two rules whose timeline can be counted by hand."""

from __future__ import annotations

import pytest

from convcalc.errors import ModelError
from convcalc.memory.job import Job
from convcalc.memory.liveness import walk
from convcalc.memory.lowering import Call, Lowering, Rules
from convcalc.memory.program import Program, Size, Value
from convcalc.memory.timeline import Timeline
from convcalc.readers.spec import read_spec
from convcalc.tensors import TensorSpec


class Plain(Rules):
    """A dense layer keeps its input, a ReLU its output and works in place."""

    def loss(self, lowering: Lowering, name: str, output: Value) -> Value:
        made = Value(output.spec, lowering.job.width, "activations", "loss")
        read = [output, lowering.labels[name]]
        lowering.program.add("Loss", read, [made], layer="loss", phase="backward")
        return made

    def accumulate(self, lowering, name, parts):
        made = Value(parts[0].spec, lowering.job.width, "activations", name)
        lowering.program.add("Sum", parts, [made], layer=name, phase="backward", inplace=(0, 1))
        return made

    def update(self, lowering, variable, gradient, layer):
        lowering.program.add("Update", [variable, gradient], [], layer=layer, phase="update")


@Plain.rule("dense")
def dense(call: Call) -> None:
    y = call.emit("MatMul", [call.x[0], call.w["kernel"]], call.outs[0])
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        if call.trains("kernel"):
            call.give_weight("kernel", call.weight_gradient("kernel", [call.x[0], dy]))
        if call.needs(0):
            call.give(0, call.emit("MatMul", [dy, call.w["kernel"]], call.ins[0]))


@Plain.rule("activation")
def activation(call: Call) -> None:
    y = call.emit("Relu", call.x, call.outs[0], inplace=(0,))
    call.result(y)

    @call.backward
    def gradient(dy: Value) -> None:
        call.give(0, call.emit("ReluGrad", [dy, y], call.ins[0], inplace=(0,)))


def network(*layers: dict, inputs: int = 3):
    return read_spec({"input": [inputs], "layers": list(layers)})


def dense_layer(units: int, **more) -> dict:
    return {"dense": {"units": units, "bias": False}, **more}


RELU = {"activation": "relu"}


def plan(net, **job) -> Timeline:
    return walk(Lowering(net, Job(**job), Plain()).run())


def test_inference_keeps_what_is_still_read():
    timeline = plan(network(dense_layer(5), RELU, dense_layer(2)), mode="inference")
    weights = 4 * (3 * 5 + 5 * 2)
    # Input 3, hidden 5 (the ReLU works in place), output 2.
    assert timeline.peak(1) == weights + 4 * (3 + 5 + 2)
    assert timeline.peak(7) == weights + 7 * 4 * (3 + 5 + 2)
    assert timeline.at(1).layer == "dense_2"


def test_training_by_hand():
    timeline = plan(network(dense_layer(5), RELU, dense_layer(2)), optimizer="sgd")
    first, second = 4 * 15, 4 * 10
    resting = first + second + 4 * (3 + 2)
    # Backward through the second layer: hidden 5, gradient 2, then the kernel's gradient is given
    # up before the input's gradient of 5 is made.
    assert timeline.peak(1) == resting + max(4 * (5 + 2) + second, 4 * (5 + 2 + 5), 4 * 5 + first)
    assert timeline.breakdown(1)["weights"] == first + second
    assert timeline.breakdown(1)["inputs"] == 4 * (3 + 2)


def test_frozen_layers_need_no_gradient():
    net = network(dense_layer(5, trainable=False), RELU, dense_layer(2))
    program = Lowering(net, Job(), Plain()).run()
    assert not [node for node in program.nodes if node.primitive == "ReluGrad"]
    assert [node.layer for node in program.nodes if node.primitive == "Update"] == ["dense_2"]


def test_nothing_to_train_is_said():
    with pytest.raises(ModelError, match="no trainable variable"):
        plan(network(dense_layer(5, trainable=False)))


def test_shared_weights_are_updated_once():
    net = network(dense_layer(4, name="a"), dense_layer(4, name="b", weights="a"), inputs=4)
    program = Lowering(net, Job(), Plain()).run()
    assert [node.primitive for node in program.nodes].count("Update") == 1
    assert [node.primitive for node in program.nodes].count("Sum") == 1


def test_slots_rest():
    net = network(dense_layer(5))
    sgd, adam = plan(net, optimizer="sgd"), plan(net, optimizer="adam")
    assert adam.peak(1) - sgd.peak(1) == 2 * 4 * 15
    assert adam.breakdown(1)["optimizer"] == 2 * 4 * 15


def test_an_operator_without_a_rule_is_owned_up_to():
    net = network(dense_layer(5), "layer_norm", dense_layer(2))
    lowering = Lowering(net, Job(), Plain())
    lowering.run()
    assert lowering.program.assumed == {"layer_norm"}


def test_largest_batch_is_solved():
    timeline = plan(network(dense_layer(50), RELU, dense_layer(20)))
    for memory in (timeline.peak(1), timeline.peak(10), timeline.peak(1000) + 17):
        found = timeline.largest_batch(memory)
        assert timeline.peak(found) <= memory < timeline.peak(found + 1)
    assert timeline.largest_batch(10) == 0


def test_views_share_memory_until_the_last_reader():
    program = Program()
    spec = TensorSpec((1, 8))
    x, view, y = (Value(spec, 4, "activations") for _ in range(3))
    program.add("Make", [], [x], layer="a", phase="forward")
    program.add("View", [x], [view], layer="b", phase="forward", alias=True)
    program.add("Use", [view], [y], layer="c", phase="forward", scratch=[Size(100)])
    timeline = walk(program)
    assert timeline.peak(2) == 2 * 64 + 100
    assert [int(total) for total in timeline.live(2)] == [64, 128, 228, 128, 64, 0]


def test_rounding_is_each_buffers():
    program = Program()
    values = [Value(TensorSpec((1, 3)), 4, "activations") for _ in range(2)]
    program.add("Make", [], values, layer="a", phase="forward")
    timeline = walk(program, round_to=256)
    assert timeline.peak(1) == 512
    assert timeline.floor(1) == 24


def test_kinds_by_step_add_up_to_the_peak():
    timeline = plan(network(dense_layer(5), RELU, dense_layer(2)), optimizer="momentum")
    series = timeline.by_kind(3)
    total = sum(series.values())
    assert len(total) == len(timeline.steps) + 1
    assert total[0] == timeline.live(3)[-1]
    assert total.max() == timeline.peak(3)
    step = timeline.events[timeline.peak_event(3)][0]
    assert {kind: int(bytes[step + 1]) for kind, bytes in series.items()} == timeline.breakdown(3)
