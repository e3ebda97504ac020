"""Pairs of DAWNBench's entries: what their speed-ups came from, as far as the table says."""

import itertools
import math

import pytest

from kit.analysis.decomposition import Decomposition, Factor, algorithmic_efficiency, decompose
from kit.analysis.sides import side_named, side_of_published
from kit.errors import KitError
from kit.results.published.dawnbench import dawnbench


def compare(a: str, b: str) -> Decomposition:
    return decompose(side_named(f"dawnbench:{a}"), side_named(f"dawnbench:{b}"))


def factors(comparison: Decomposition) -> dict[str, Factor]:
    return {factor.name: factor for factor in comparison.factors}


@pytest.mark.parametrize(
    ("network", "framework", "machine"),
    [
        ("b", "pytorch", "ec2"),
        ("b", "pytorch", "gc"),
        ("b", "tensorflow", "ec2"),
        ("b", "tensorflow", "gc"),
        ("nb", "pytorch", "ec2"),
        ("nb", "pytorch", "gc"),
        ("nb", "tensorflow", "gc"),
    ],
)
def test_one_team_and_network_on_another_gpu_is_hardware(network: str, framework: str, machine: str) -> None:
    comparison = compare(
        f"CIFAR10/dawn_resnet164_{network}_1k80-{machine}_{framework}",
        f"CIFAR10/dawn_resnet164_{network}_1p100-dawn_{framework}",
    )
    found = factors(comparison)
    assert found["algorithm"].ratio == 1
    assert found["algorithm"].exact
    assert found["scale"].ratio == 1
    assert found["hardware"].ratio == pytest.approx(2.55, rel=0.15)
    assert found["hardware"].separable is True
    assert "indicative" in found["hardware"].basis
    assert found["luck"].ratio == pytest.approx(1, abs=0.15)
    assert found["implementation"].ratio == pytest.approx(1.2, rel=0.3)


def test_one_v100_in_2018_and_in_2019_is_no_hardware_at_all() -> None:
    comparison = compare("CIFAR10/diux_cifar_p3", "CIFAR10/kakaobrain_custom-resnet9_1v100-braincloud_pytorch")
    found = factors(comparison)
    assert list(found) == ["scale", "hardware", "algorithm × implementation"]
    assert found["hardware"].ratio == found["scale"].ratio == 1
    assert found["hardware"].exact
    assert found["algorithm × implementation"].ratio == pytest.approx(4075 / 57.046)
    samples, rest = found["algorithm × implementation"].split
    assert samples.ratio == pytest.approx(89 / 24)
    assert rest.name == "FLOPs per sample × implementation"
    assert rest.ratio == pytest.approx(4075 / 57.046 * 24 / 89)


@pytest.mark.parametrize("machine", ["1k80-ec2", "1k80-gc", "1p100-dawn", "16vCPUs-gc"])
def test_another_framework_alone_is_implementation(machine: str) -> None:
    network = f"CIFAR10/dawn_resnet164_b_{machine}"
    found = factors(compare(f"{network}_pytorch", f"{network}_tensorflow"))
    assert found["algorithm"].ratio == found["scale"].ratio == found["hardware"].ratio == 1
    assert "implementation" in found


def test_one_recipe_that_came_later_to_its_target_had_less_luck() -> None:
    found = factors(compare("dawn_resnet164_nb_1k80-ec2_pytorch", "dawn_resnet164_nb_1k80-gc_pytorch"))
    assert found["algorithm"].ratio == found["hardware"].ratio == 1
    assert found["luck"].ratio == pytest.approx(152 / 142)
    assert found["implementation"].ratio == pytest.approx(37933.479 / 34671.538 * 142 / 152)


def test_one_recipe_on_the_same_gpus_of_another_cloud_instance() -> None:
    found = factors(compare("diux_cifar_g3", "diux_cifar_p3"))
    assert found["algorithm"].ratio == found["luck"].ratio == 1


@pytest.mark.parametrize(
    ("one", "many", "devices", "epochs"),
    [
        ("kakaobrain_custom-resnet9_1v100", "kakaobrain_custom-resnet9_4v100", 4, (24, 33)),
        ("fastai_pytorch_single_volta", "CIFAR10/fastai_pytorch", 8, (26, 35)),
    ],
)
def test_a_network_on_more_gpus_and_a_longer_schedule(
    one: str, many: str, devices: int, epochs: tuple[int, int]
) -> None:
    comparison = compare(one, many)
    found = factors(comparison)
    assert list(found) == ["algorithm", "scale", "hardware", "implementation"]
    assert found["scale"].ratio == pytest.approx(devices)
    assert found["hardware"].exact
    assert found["algorithm"].ratio == pytest.approx(epochs[0] / epochs[1])
    assert [part.name for part in found["algorithm"].split] == ["samples to target", "FLOPs per sample"]
    assert found["algorithm"].split[1].exact
    expected = comparison.speedup.ratio / devices * epochs[1] / epochs[0]
    assert found["implementation"].ratio == pytest.approx(expected)
    assert found["implementation"].ratio < 1, "no perfect scaling"


def test_a_cpu_has_no_place_in_the_table_so_hardware_stays_with_the_implementation() -> None:
    comparison = compare("dawn_resnet164_b_16vCPUs-gc_pytorch", "dawn_resnet164_b_1p100-dawn_pytorch")
    found = factors(comparison)
    assert found["algorithm"].ratio == 1
    assert "hardware × implementation" in found
    assert "hardware" not in found
    assert any("no speed is known" in note for note in comparison.notes)


def test_another_team_that_ran_published_code_ran_that_recipe() -> None:
    found = factors(compare("BAIDU-USA-GAIT_BaiduNet9P_8GV100", "lambda_BaiduNet9"))
    assert found["algorithm"].ratio == 1
    assert found["scale"].ratio == 0.5
    assert found["hardware"].ratio == pytest.approx(0.62, abs=0.02)
    other = factors(compare("BAIDU-USA-GAIT_BaiduNet9_1GV100", "lambda_BaiduNet9"))
    assert "algorithm × implementation" in other, "BaiduNet9 and BaiduNet9P were trained by different recipes"


def test_a_known_network_at_a_constant_size_has_a_known_cost() -> None:
    comparison = compare("diux_resnet50_p3-tensorpack", "ppwwyyxx_resnet152_8P100")
    assert comparison.a.flops_method == comparison.b.flops_method == "estimated"
    assert comparison.a.train_flops == pytest.approx(3 * 2 * 4.0892e9 * 81 * 1_281_167)
    found = factors(comparison)
    samples, per_sample = found["algorithm"].split
    assert samples.ratio == pytest.approx(81 / 61)
    assert per_sample.ratio == pytest.approx(4.0892 / 11.514, rel=1e-3)
    assert found["scale"].ratio == 1
    assert comparison.algorithmic_efficiency is None


def test_one_network_by_one_team_costs_the_same_per_sample() -> None:
    found = factors(compare("google_resnet50_tpu_tensorflow17", "google_resnet50_tpu_tensorflow18"))
    samples, per_sample = found["algorithm"].split
    assert samples.ratio == pytest.approx(78 / 81)
    assert per_sample.exact
    assert found["hardware"].exact


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("diux_resnet50_p3-tensorpack", "ImageNet/fastai_pytorch"),
        ("fastai_resnet50_p3_4_machine", "fastai_resnet50_p3_8_machine"),
        ("google_resnet50_tpu_tensorflow111", "google_resnet50_tpu_tensorflow111_fastai"),
    ],
)
def test_where_the_image_size_changes_during_training_the_cost_is_not_made_up(a: str, b: str) -> None:
    found = factors(compare(a, b))
    (merged,) = [name for name in found if name.startswith("algorithm × ")]
    assert found[merged].split[0].name == "samples to target"


def test_the_same_machines_twice_as_many_are_scale_even_where_their_speed_is_unknown() -> None:
    found = factors(compare("Intel_Resnet50_ec2", "Intel_Resnet50_4K_ec2"))
    assert found["scale"].ratio == pytest.approx(2)
    assert found["hardware"].exact
    assert found["algorithm"].ratio == pytest.approx(81 / 85)


@pytest.mark.parametrize("task", ["CIFAR10", "ImageNet"])
def test_every_pair_multiplies_to_its_speed_up_and_inverts_when_swapped(task: str) -> None:
    sides = [side_of_published(entry) for entry in dawnbench() if entry.task == task]
    for a, b in itertools.combinations(sides, 2):
        there, back = decompose(a, b), decompose(b, a)
        assert math.prod(factor.ratio for factor in there.factors) == pytest.approx(a.time_s / b.time_s, rel=1e-9)
        for forth, reverse in zip(there.factors, back.factors, strict=True):
            assert forth.name == reverse.name
            assert forth.ratio * reverse.ratio == pytest.approx(1, rel=1e-9)


def test_an_entry_compared_with_itself_is_1_in_every_factor() -> None:
    for entry in dawnbench():
        side = side_of_published(entry)
        assert all(factor.ratio == pytest.approx(1) for factor in decompose(side, side).factors)


def test_other_tasks_and_estimated_operations_are_refused() -> None:
    with pytest.raises(KitError, match="needs one target"):
        compare("diux_cifar_p3", "diux_resnet50_p3")
    sides = [side_named(f"dawnbench:{name}") for name in ("diux_resnet50_p3", "ppwwyyxx")]
    with pytest.raises(KitError, match="estimated, not counted"):
        algorithmic_efficiency(*sides)
