"""Hardware from the text that people write: all that is read is asserted, all that cannot be read is refused."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kit.errors import KitError
from kit.hardware.specs import GpuSpec, all_specs, spec_named
from kit.hardware.text import parse_hardware
from kit.hardware.words import Machine, vocabulary

V100, P100, TPU = "V100 SXM2 16GB", "P100 SXM2 16GB", "TPU v2 chip"

DAWNBENCH: dict[str, tuple[int, str, str | None, str | None]] = {
    "1 GPU (Nvidia GeForce GTX 1080 Ti)": (1, "GTX 1080 Ti", None, None),
    "1 K80 / 30 GB / 8 CPU (Google Cloud)": (1, "K80", None, None),
    "1 K80 / 61 GB / 4 CPU (Amazon EC2 [p2.xlarge])": (1, "K80", "p2.xlarge", None),
    "1 P100 / 512 GB / 56 CPU (DAWN Internal Cluster)": (1, "P100 PCIe 16GB", None, "PCIe 16GB"),
    "1 ecs.gn6e-c12g1.24xlarge (AlibabaCloud)": (8, "V100 SXM2 32GB", "ecs.gn6e-c12g1.24xlarge", None),
    "1/16 of a TPUv2 Pod": (16, TPU, None, None),
    "1/4 of a TPUv2 Pod": (64, TPU, None, None),
    "16 * 8 * Tesla-V100(ModelArts Service)": (128, V100, None, "SXM2 16GB"),
    "16 ecs.gn6e-c12g1.24xlarge (AlibabaCloud)": (128, "V100 SXM2 32GB", "ecs.gn6e-c12g1.24xlarge", None),
    "16 nodes with InfiniBand (8*V100 with NVLink for each node)": (128, V100, None, "16GB"),
    "16 p3.16xlarge (AWS)": (128, V100, "p3.16xlarge", None),
    "32 * V100 (4 machines - AWS p3.16xlarge)": (32, V100, "p3.16xlarge", None),
    "4 M60 / 488 GB / 64 CPU (Amazon EC2 [g3.16xlarge])": (4, "M60", "g3.16xlarge", None),
    "64 * V100 (8 machines - AWS p3.16xlarge)": (64, V100, "p3.16xlarge", None),
    "8 * V100 (AWS p3.16xlarge)": (8, V100, "p3.16xlarge", None),
    "8 K80 / 488 GB / 32 CPU (Amazon EC2 [p2.8xlarge])": (8, "K80", "p2.8xlarge", None),
    "8 P100 / 512 GB / 40 CPU (NVIDIA DGX-1)": (8, P100, "DGX-1", None),
    "8 nodes with InfiniBand (8*P100 for each node)": (64, "P100 PCIe 16GB", None, "PCIe 16GB"),
    "8*V100 (single p3.16xlarge)": (8, V100, "p3.16xlarge", None),
    "Azure ND40s_v2": (8, "V100 SXM2 32GB", "ND40s_v2", None),
    "Baidu Cloud Tesla 8*V100-16GB/448 GB/96 CPU": (8, V100, None, "SXM2"),
    "Baidu Cloud Tesla V100*1-16GB/56 GB/12 CPU": (1, V100, None, "SXM2"),
    "Half of a TPUv2 Pod": (128, TPU, None, None),
    "IBM AC922 + 4 * Nvidia Tesla V100 (NCSA HAL)": (4, V100, None, "16GB"),
    "IBM AC922 + Nvidia Tesla V100 (Nimbix np9g1)": (1, V100, None, "16GB, 1 device"),
    "Lambda GPU Cloud - 4x GTX 1080 Ti": (4, "GTX 1080 Ti", None, None),
    "Paperspace Volta (V100)": (1, V100, None, "SXM2 16GB, 1 device"),
    "Tesla V100 * 1 GPU / 488 GB / 56 CPU (Kakao Brain BrainCloud)": (1, V100, None, "SXM2 16GB"),
    "Tesla V100 * 4 GPU / 488 GB / 56 CPU (Kakao Brain BrainCloud)": (4, V100, None, "SXM2 16GB"),
    "Tesla V100 * 8 GPU / 32 GB / 40 CPU": (8, V100, None, "SXM2 16GB"),
    "V100 (AWS p3.2xlarge)": (1, V100, "p3.2xlarge", None),
    "g3.4xlarge": (1, "M60", "g3.4xlarge", None),
    "p3.16xlarge": (8, V100, "p3.16xlarge", None),
    "p3.2xlarge": (1, V100, "p3.2xlarge", None),
}
"""Every `hardware` of a training entry of dawn-bench-entries (fb27b827) but the refused ones below."""

DAWNBENCH_REFUSED = {
    "128 nodes with Xeon Platinum 8124M / 144 GB / 36 Cores (Amazon EC2 [c5.18xlarge])": "no CPUs",
    "64 nodes with Xeon Platinum 8124M / 144 GB / 36 Cores (Amazon EC2 [c5.18xlarge])": "no CPUs",
    "60 GB / 16 CPU (Google Cloud [n1-standard-16])": "no CPUs",
    "GCP n1-standard-2, Cloud TPU": "may be TPU v2 or TPU v3",
}

OTHERS: dict[str, tuple[int, str, str | None, str | None]] = {
    "8x NVIDIA H100-SXM5-80GB": (8, "H100 SXM5 80GB", None, None),
    "NVIDIA A100-SXM-80GB x 4": (4, "A100 SXM4 80GB", None, None),
    "8 x A100 (80GB)": (8, "A100 SXM4 80GB", None, "SXM4"),
    "2x8xA100": (16, "A100 SXM4 40GB", None, "SXM4 40GB"),
    "2 x (8 x H100)": (16, "H100 SXM5 80GB", None, "SXM5 80GB"),
    "A100x8": (8, "A100 SXM4 40GB", None, "SXM4 40GB"),
    "two RTX 4090s": (2, "RTX 4090", None, None),
    "A100 (40 GB) x 8": (8, "A100 SXM4 40GB", None, "SXM4"),
    "8 x A100 / 80GB": (8, "A100 SXM4 80GB", None, "SXM4"),
    "V100 * 8 (2 nodes)": (8, V100, None, "SXM2 16GB"),
    "V100 x 8 x 2 nodes": (16, V100, None, "SXM2 16GB"),
    "4x 1080Ti": (4, "GTX 1080 Ti", None, None),
    "1x H100 + 2x Xeon 8480": (1, "H100 SXM5 80GB", None, "SXM5 80GB"),
    "2 x GB200 NVL72": (144, "GB200 186GB", "GB200 NVL72", None),
    "a2-highgpu-8g": (8, "A100 SXM4 40GB", "a2-highgpu-8g", None),
    "p4d.24xlarge": (8, "A100 SXM4 40GB", "p4d.24xlarge", None),
    "p5.48xlarge": (8, "H100 SXM5 80GB", "p5.48xlarge", None),
    "p2.16xlarge": (16, "K80", "p2.16xlarge", None),
    "4 K80 boards": (8, "K80", None, None),
    "half of a K80 board": (1, "K80", None, None),
    "DGX A100": (8, "A100 SXM4 40GB", "DGX A100", "40GB"),
    "DGX A100 (80GB)": (8, "A100 SXM4 80GB", "DGX A100", None),
    "4 x DGXH100": (32, "H100 SXM5 80GB", "DGX H100", None),
    "dgxa100_n8": (64, "A100 SXM4 40GB", "DGX A100", "40GB"),
    "DGX-2": (16, "V100 SXM3 32GB", "DGX-2", None),
    "p3.16xlarge x 4": (32, V100, "p3.16xlarge", None),
    "4 p3.16xlarge (8 V100 each)": (32, V100, "p3.16xlarge", None),
    "2 V100 (p3.16xlarge)": (2, V100, "p3.16xlarge", None),
    "4 nodes x 8 x V100": (32, V100, None, "SXM2 16GB"),
    "4 nodes, 8 V100": (32, V100, None, "SXM2 16GB, 8 in each node"),
    "32 V100 on 4 nodes": (32, V100, None, "SXM2 16GB"),
    "Intel Xeon Gold 6148 / 8 V100": (8, V100, None, "SXM2 16GB"),
    "tpu-v3-32": (16, "TPU v3 chip", None, None),
    "TPU v5e-8": (8, "TPU v5e chip", None, None),
    "256 TPU v3 cores": (128, "TPU v3 chip", None, None),
    "64 TPU v4": (64, "TPU v4 chip", None, "counted in chips"),
    "Cloud TPU v3": (4, "TPU v3 chip", None, "1 device"),
    "16 Cloud TPU v2": (64, TPU, None, None),
    "TPU v3 Pod": (1024, "TPU v3 chip", None, "1 pod"),
}

REFUSED = {
    "": "unknown hardware ''",
    "8 x H10": "did you mean H100",
    "p3.16xlarg": "did you mean p3.16xlarge",
    "RTX 9090": "unknown hardware 'RTX 9090'",
    "DGX-1": "may be V100 or P100",
    "Titan X": "may be Titan X (Maxwell) or Titan X (Pascal)",
    "V100 and A100": "expected one kind",
    "P100 (p3.2xlarge)": "expected one kind",
    "p3.2xlarge and p3.16xlarge": "expected one kind",
    "V100 SXM4": "known as PCIe, SXM2, SXM3",
    "A100 20GB": "known with 40 GB, 80 GB",
    "A100:8": "cannot tell what '8' counts",
    "8 new V100": "cannot tell what '8' counts",
    "V100 8": "cannot tell what '8' counts",
    "V100-8": "cannot tell what '8' counts",
    "8 V100 nodes": "cannot tell devices from nodes",
    "4 nodes with V100": "not the devices of each",
    "1 K80 pod": "cannot tell how many K80 a pod is",
    "9 V100 on 2 nodes": "on 2 nodes",
    "8 V100 on 0 nodes": "on 0 nodes",
    "9 V100 (p3.16xlarge)": "p3.16xlarge has 8",
    "2 p3.16xlarge (24 V100)": "p3.16xlarge has 8",
    "MI250X x 4 (8 GCDs)": "counts 4 and 8 devices",
    "64 A100, 8 per node": "cannot tell what '8' counts",
    "v4-32 TPU": "may be TPU v2 or TPU v3",
    "8 V100 (4 GPU)": "counts 4 and 8 devices",
    "1/3 of a TPUv2 Pod": "expected a whole number",
    "1/0 of a TPUv2 Pod": "cannot tell what",
    "0 V100": "expected a whole number",
    "1.5 V100": "expected a whole number",
}


@pytest.mark.parametrize("text", DAWNBENCH)
def test_every_accelerator_of_dawnbench_is_read(text: str) -> None:
    assert outcome(text) == DAWNBENCH[text]


@pytest.mark.parametrize("text", OTHERS)
def test_other_ways_to_write_are_read(text: str) -> None:
    assert outcome(text) == OTHERS[text]


@pytest.mark.parametrize("text", [*DAWNBENCH_REFUSED, *REFUSED])
def test_what_is_unknown_or_open_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(KitError) as refusal:
        parse_hardware(text)
    assert (DAWNBENCH_REFUSED | REFUSED)[text] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_the_names_of_the_table_are_read_and_nothing_is_assumed(spec: GpuSpec) -> None:
    read = parse_hardware(f"3 x {spec.name}")
    assert (read.spec, read.count, read.assumed) == (spec, 3, None)


@pytest.mark.parametrize("name", [name for spec in all_specs() for name in spec.driver_names])
def test_the_names_of_drivers_are_read(name: str) -> None:
    assert parse_hardware(f"2 x {name}").spec == spec_named(name)


@pytest.mark.parametrize("machine", vocabulary().machines.values(), ids=lambda machine: machine.name)
def test_machines_hold_devices_of_the_table(machine: Machine) -> None:
    assert all(spec_named(device) for device in machine.devices)
    if len({spec.family for device in machine.devices if (spec := spec_named(device))}) == 1:
        read = parse_hardware(f"3 x {machine.name}")
        assert read.count == 3 * machine.count
        assert read.spec == spec_named(machine.devices[0])


@given(
    st.lists(st.integers(1, 64), max_size=3),
    st.sampled_from([" * ", "x", " \N{MULTIPLICATION SIGN} ", "*"]),
    st.booleans(),
)
def test_counts_multiply(factors: list[int], times: str, brackets: bool) -> None:
    text = times.join([*map(str, factors), "A100"])
    read = parse_hardware(f"({text})" if brackets else text)
    product = 1
    for factor in factors:
        product *= factor
    assert read.count == product


@given(st.sampled_from(sorted(DAWNBENCH | OTHERS)), st.data())
def test_case_and_spaces_do_not_matter(text: str, data: st.DataObject) -> None:
    noisy = "".join(
        data.draw(st.sampled_from([char.upper(), char.lower()])) if char != " " else " " * data.draw(st.integers(1, 3))
        for char in text
    )
    assert outcome(f"  {noisy}\t") == outcome(text)


@given(st.sampled_from(sorted({spec.family for spec in all_specs()})), st.sampled_from(["", " ", "-", "_"]))
def test_separators_inside_names_do_not_matter(family: str, separator: str) -> None:
    plain = outcome_or_refusal(f"4 x {family}")
    assert outcome_or_refusal(f"4 x {family.replace(' ', separator)}") == plain


@given(st.text(max_size=60) | st.text("0123456789/x*.-()[] \tofgbTPUv2V100", max_size=60))
@example("9" * 5000 + " x V100-" + "9" * 5000 + "GB")
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        read = parse_hardware(text)
    except KitError as refusal:
        assert str(refusal).isprintable()
    else:
        assert read.count >= 1


@given(st.integers(1, 256))
def test_shares_of_a_pod_are_whole_or_refused(parts: int) -> None:
    chips = Fraction(256, parts)
    text = f"1/{parts} of a TPUv2 Pod"
    if chips.denominator == 1:
        assert parse_hardware(text).count == chips
    else:
        with pytest.raises(KitError, match="whole number"):
            parse_hardware(text)


def outcome(text: str) -> tuple[int, str, str | None, str | None]:
    read = parse_hardware(text)
    return read.count, read.spec.name, read.instance, read.assumed


def outcome_or_refusal(text: str) -> object:
    try:
        return outcome(text)
    except KitError as refusal:
        return str(refusal).split(":")[-1]
