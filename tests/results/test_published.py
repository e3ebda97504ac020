"""Published tables: what they hold, and how an entry is named."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from kit.errors import KitError
from kit.results.published.ai_and_efficiency import (
    FAULTS,
    LEVELS,
    PaperModel,
    ai_and_efficiency,
    ai_and_efficiency_models,
)
from kit.results.published.dawnbench import dawnbench, find_dawnbench
from kit.results.table import models, read_table


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


# ---- AI and Efficiency


def test_rows_are_those_of_the_published_file() -> None:
    rows = ai_and_efficiency()
    assert [row.level for row in rows] == ["AlexNet"] * 6 + ["ResNet-50"] * 2 + ["Seq2Seq"] * 2 + ["GNMT"] * 2
    assert (rows[0].date, rows[0].teraflops_s_days, rows[0].listed_ratio) == (date(2012, 6, 1), Decimal("3.1"), 1)
    assert (rows[5].date, rows[5].teraflops_s_days, rows[5].listed_ratio) == (date(2019, 5, 28), Decimal("0.069"), 44)
    assert {fault for row in rows for fault in row.faults} == set(FAULTS)
    assert {row.level for row in rows} == set(LEVELS)


def test_a_date_is_flagged_exactly_where_the_arxiv_number_of_the_row_contradicts_it() -> None:
    for row in ai_and_efficiency():
        contradicted = row.arxiv_month not in (None, (row.date.year, row.date.month))
        assert ("date" in row.faults) == contradicted, row.model


def test_a_listed_factor_is_flagged_exactly_where_rounding_of_the_computes_does_not_explain_it() -> None:
    rows = ai_and_efficiency()
    for row in rows:
        first = next(other for other in rows if other.level == row.level)
        assert row.listed_ratio is not None
        unexplained = abs(float(first.teraflops_s_days / row.teraflops_s_days) / row.listed_ratio - 1) > 0.04
        assert bool({"factor", "rounded"} & set(row.faults)) == unexplained, row.model


def test_a_row_that_was_changed_has_no_known_faults() -> None:
    b1 = next(row for row in ai_and_efficiency() if row.model == "EfficientNet (b1)")
    assert "forward" in b1.faults
    assert b1.model_copy(update={"teraflops_s_days": Decimal("2.21")}).faults == ()


def test_the_papers_column_is_in_peta_operations_and_the_table_follows_from_it() -> None:
    paper = {model.model: model for model in ai_and_efficiency_models()}
    assert len(paper) == 16
    for model in paper.values():
        assert model.printed / 86.4 == pytest.approx(model.teraflops_s_days, rel=0.005), model.model
    of_table = {
        "AlexNet": "AlexNet",
        "GoogLeNet": "GoogLeNet",
        "MobileNet": "MobileNet_v1",
        "ShuffleNet (1x)": "ShuffleNet_v1_1x",
        "ShuffleNet v2 (1x)": "ShuffleNet_v2_1x",
        "EfficientNet (b0)": "EfficientNet-b0",
    }
    for row in ai_and_efficiency()[:6]:
        assert paper[of_table[row.model]].teraflops_s_days == pytest.approx(float(row.teraflops_s_days), rel=0.04)


# ---- tables


def test_a_table_may_be_written_on_windows_and_hold_lines_in_a_cell(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbf# a comment\r\na,b\r\n1,"two\r\nlines"\r\n\r\n3,4\r\n')
    table = read_table(path)
    assert table.columns == ("a", "b")
    assert table.rows == ((4, ("1", "two\nlines")), (6, ("3", "4")))


def test_a_row_with_too_few_or_too_many_cells_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("model,printed,epochs,gmac_per_image\na,1,2\nb,1,2,3\nc,1,2,3,4\nd,1,2.5,3\n")
    found = models(read_table(path), PaperModel)
    assert [model.model for model in found.rows] == ["b"]
    assert [remark.line for remark in found.refused] == [2, 4, 5]
    assert found.refused[0].what == "expected 4 cells, got 3"
    assert "epochs" in found.refused[2].what
