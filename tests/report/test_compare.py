"""`kit compare` as a person and a program see it."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from typer.testing import CliRunner

from kit.cli import app
from kit.errors import KitError

K80, P100 = "dawnbench:dawn_resnet164_b_1k80-ec2_pytorch", "dawnbench:dawn_resnet164_b_1p100-dawn_pytorch"


def compare(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_comparison_is_a_table_of_factors_and_their_product() -> None:
    text = compare(K80, P100)
    rows = {
        line.split("×")[0].strip(): line
        for line in text.splitlines()
        if " × " in line and ":" not in line.split("×")[0]
    }
    assert list(rows) == ["algorithm", "luck", "scale", "hardware", "implementation", "speed-up"]
    assert "× 1.00  exact" in rows["algorithm"]
    assert "not separable" in rows["implementation"]
    assert "× 3.06" in rows["speed-up"]
    assert "33391.450 s, 1 ×" in text
    assert "one run" in text


def test_a_program_gets_every_number() -> None:
    content = json.loads(compare(K80, P100, "--json"))
    assert math.prod(factor["ratio"] for factor in content["factors"]) == pytest.approx(content["speedup"]["ratio"])
    assert content["a"]["time_s"] / content["b"]["time_s"] == pytest.approx(content["speedup"]["ratio"])
    assert {"interaction_log", "algorithmic_efficiency", "no_efficiency_because", "notes"} <= set(content)


@pytest.mark.parametrize("ending", ["png", "PNG"])
def test_the_waterfall_is_a_picture(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"waterfall.{ending}"
    assert "speed-up" in compare(K80, P100, "--plot", str(path))
    with Image.open(path) as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 10


def test_the_waterfall_names_every_factor_with_its_ratio(tmp_path: Path) -> None:
    path = tmp_path / "waterfall.svg"
    compare("dawnbench:diux_cifar_p3", "dawnbench:kakaobrain_custom-resnet9_4v100", "--plot", str(path))
    texts = {"".join(node.itertext()).strip() for node in ElementTree.parse(path).iter() if node.tag.endswith("}text")}
    assert {"A", "scale", "hardware", "algorithm × implementation", "B", "× 4.00", "× 1.00", "1.13 h", "28 s"} <= texts


@pytest.mark.parametrize(
    ("path", "expected"),
    [("picture.gif", "expected a file name that ends in .png, .svg, .pdf"), ("no/where.png", "cannot write")],
)
def test_a_picture_that_cannot_be_written_is_a_mistake(
    path: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitError, match=expected):
        CliRunner().invoke(app, ["compare", K80, P100, "--plot", path], catch_exceptions=False)
