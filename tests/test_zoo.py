"""The zoo: its index is what the analysis says, and the classics are what their sources say."""

from __future__ import annotations

import pytest

import convcalc
from convcalc import zoo


@pytest.mark.parametrize("name", sorted(zoo.index()))
def test_the_index_is_what_the_analysis_says(name: str) -> None:
    entry = zoo.index()[name]
    report = convcalc.analyze(name)
    assert report.status == "complete"
    assert (report.totals.params, report.totals.macs) == (entry["params"], entry["macs"])


@pytest.mark.parametrize(
    ("name", "trainable", "macs"),
    [
        # torchvision's published counts; its tables give MACs to a thousandth of a G.
        ("alexnet", 61_100_840, 714_188_480),
        ("googlenet", 6_624_904, 1_498_376_192),
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("squeezenet", 1_248_424, 818_924_576),
    ],
)
def test_classics_against_published_counts(name: str, trainable: int, macs: int) -> None:
    totals = convcalc.analyze(name).totals
    assert (totals.trainable_params, totals.macs) == (trainable, macs)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet50", 25_636_712, 3_857_973_248),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("vgg19", 143_667_240, 19_632_062_464),
        ("densenet121", 8_062_504, 2_834_161_664),
        ("seed_layer", 15_200, 225_000_000),
        ("mnist_convnet", 34_826, 2_440_960),
    ],
)
def test_figures_that_must_come_out(name: str, params: int, macs: int) -> None:
    totals = convcalc.analyze(name).totals
    assert (totals.params, totals.macs) == (params, macs)


def test_unet_ends_as_the_paper_draws_it() -> None:
    assert convcalc.analyze("unet").layers[-1].output_shape == [1, 388, 388, 2]


def test_another_input_size() -> None:
    report = convcalc.analyze("resnet18", input=(256, 256, 3))
    assert report.totals.params == convcalc.analyze("resnet18").totals.params
    assert report.layers[0].output_shape == [1, 128, 128, 64]
    with pytest.raises(convcalc.ModelError, match="takes 3 sizes, not 2"):
        convcalc.load("resnet18", input=(256, 3))
