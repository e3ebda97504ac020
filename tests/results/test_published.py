"""Published tables: what they hold, and how an entry is named."""

import pytest

from kit.errors import KitError
from kit.results.published import dawnbench, find_dawnbench


def test_all_training_entries_are_there_once() -> None:
    entries = dawnbench()
    assert len({entry.id for entry in entries}) == len(entries) == 58
    assert sum(entry.task == "CIFAR10" for entry in entries) == 31
    for entry in entries:
        target = {"CIFAR10": 94, "ImageNet": 93}[entry.task]
        assert target <= entry.accuracy_at_target <= entry.best_accuracy, entry.id
        assert 2017 <= entry.date.year <= 2020
        assert entry.recipe.recipe is entry.recipe


def test_an_entry_is_as_published() -> None:
    entry = find_dawnbench("dawnbench:CIFAR10/diux_cifar_p3")
    assert (entry.author, entry.model, entry.hardware) == ("DIUX", "ResNet50", "p3.2xlarge")
    assert (entry.time_to_target_s, entry.cost_per_hour_usd, entry.epoch_at_target) == (4075, 3.06, 89)
    assert entry.samples_to_target == 89 * 50_000
    assert entry.code_repository == "ppwwyyxx/tensorpack"
    assert find_dawnbench("dawnbench:ImageNet/zte").cost_per_hour_usd is None


@pytest.mark.parametrize(
    "name",
    [
        "dawnbench:CIFAR10/diux_cifar_p3",
        "dawnbench:CIFAR10/train/diux_cifar_p3.json",
        "dawnbench:diux_cifar_p3",
        "dawnbench:cifar10/DIUX_cifar_p",
        "CIFAR10/diux_cifar_p3",
    ],
)
def test_an_entry_has_an_id_and_the_unique_beginnings_of_it(name: str) -> None:
    assert find_dawnbench(name).source_file == "CIFAR10/train/diux_cifar_p3.json"


def test_a_whole_name_wins_over_a_longer_one_that_begins_with_it() -> None:
    assert find_dawnbench("dawnbench:CIFAR10/fastai_pytorch").source_file == "CIFAR10/train/fastai_pytorch.json"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dawnbench:fastai_pytorch", "begins 2 entries: dawnbench:CIFAR10/fastai_pytorch, dawnbench:ImageNet/fastai_p"),
        ("dawnbench:", "begins 58 entries: .* and 52 more; give more of the name"),
        ("dawnbench:CIFAR10/kakobrain", "no DAWNBench entry .*did you mean dawnbench:CIFAR10/kakaobrain_custom"),
        ("dawnbench:1k80-ec2_tensor", "did you mean dawnbench:CIFAR10/dawn_resnet164_b_1k80-ec2_tensorflow"),
        ("dawnbench:qqq", "there is no DAWNBench entry 'dawnbench:qqq'; for example dawnbench:CIFAR10/"),
    ],
)
def test_a_name_that_fits_none_or_several_says_what_is_near(name: str, expected: str) -> None:
    with pytest.raises(KitError, match=expected):
        find_dawnbench(name)


def test_operations_are_estimated_only_for_a_known_network_at_a_constant_image_size() -> None:
    estimated = {entry.id.rpartition("/")[2] for entry in dawnbench() if entry.training_flops is not None}
    assert estimated == {
        "Intel_Resnet50_4K_ec2_Xeon_8124M_intelcaffe",
        "Intel_Resnet50_ec2_Xeon_8124M_intelcaffe",
        "diux_resnet50_p3-tensorpack",
        "google_resnet50_tpu_tensorflow111",
        "google_resnet50_tpu_tensorflow17",
        "google_resnet50_tpu_tensorflow18",
        "google_resnet50_tpupod_tensorflow18",
        "ppwwyyxx_resnet152_8P100-DGX1_tensorpack",
    }
