"""How fast do other ways to train on the digits reach 99.0 %, against the kit's own baselines?

Everybody has the track's 1,000 training and 797 test images, and is timed from data in memory to predictions of which
790 are right, evaluations included; imports and a first warm-up on noise are not timed. The kit's baselines run under
its referee, and their time is the record's. In each round every competitor trains once, with the round's seed; rounds
begin with another one each time.

    python benchmarks/time_to_target.py [--rounds 10] [--loader torch]

Lightning is no dependency of the kit: where it is not installed, it is left out, and the table says so.
"""

import argparse
import importlib.util
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.analysis.scoring import wilson

ROOT = Path(__file__).parents[1]
TARGET = 0.99
EPOCHS = 60
"""How long the plain loop may go on: twice as long as it needs where it gets there."""


class Result(NamedTuple):
    """One training."""

    seconds: float
    value: float


class Data(NamedTuple):
    """The track's split: images (N, 1, 8, 8) in 0 to 1, float32, and labels."""

    train_images: Any
    train_labels: Any
    test_images: Any
    test_labels: Any


Train = Callable[[Data, int], Result]


def load_data() -> Data:
    """As `kit data prepare digits` writes it."""
    from kit.data.sources.digits import load

    raw = load()
    train, test = (images.astype(np.float32) / 255 for images in (raw.train_images, raw.test_images))
    return Data(train, raw.train_labels, test, raw.test_labels)


def scikit_learn(make: Callable[[int], Any]) -> Train:
    """Fit on rows of pixels and predict, once."""

    def train(data: Data, seed: int) -> Result:
        train, test = (images.reshape(len(images), -1) for images in (data.train_images, data.test_images))
        classifier = make(seed)
        start = time.perf_counter()
        classifier.fit(train, data.train_labels)
        right = classifier.predict(test) == data.test_labels
        return Result(time.perf_counter() - start, float(right.mean()))

    return train


def svc(**options: Any) -> Train:
    """Support vector machine; the seed changes nothing."""
    from sklearn.svm import SVC

    return scikit_learn(lambda _: SVC(**options))


def mlp() -> Train:
    """Multilayer perceptron of one hidden layer, as it comes."""
    from sklearn.neural_network import MLPClassifier

    return scikit_learn(lambda seed: MLPClassifier(random_state=seed))


def plain_loop(data: Data, seed: int) -> Result:
    """Keras's MNIST example as a PyTorch loop: two convolutions, dropout, Adam, batches of 128; a test per epoch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(seed)
    images, labels, test, answers = (torch.from_numpy(array) for array in data)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(256, 10),
    )
    optimizer = torch.optim.Adam(model.parameters())
    value, start = 0.0, time.perf_counter()
    for _ in range(EPOCHS):
        model.train()
        for batch in torch.randperm(len(images)).split(128):
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            value = float((model(test).argmax(1) == answers).float().mean())
        if value >= TARGET:
            break
    return Result(time.perf_counter() - start, value)


def lightning_trainer() -> Train:
    """Lightning's Trainer with the network, the optimizer and the shifts of digits_cnn; a test per epoch."""
    import lightning  # type: ignore[import-not-found]
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    warnings.filterwarnings("ignore", module="lightning")  # advice on worker processes and launchers
    for name in ("lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    recipe = _module(ROOT / "baselines/digits_cnn/submission.py")
    config = _config("digits_cnn")

    class Digits(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, batches: int) -> None:
            super().__init__()
            self.net = recipe.Net(config["width"])
            self.batches = batches

        def training_step(self, batch: Any, _: int) -> Any:
            images, labels = batch
            return F.cross_entropy(self.net(recipe.shifted(images)), labels, label_smoothing=config["label_smoothing"])

        def validation_step(self, batch: Any, _: int) -> None:
            images, labels = batch
            self.log("value", (self.net(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(
                self.parameters(), config["lr"], momentum=0.9, nesterov=True, weight_decay=config["weight_decay"]
            )
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer,
                config["lr"],
                total_steps=2 * config["epochs"] * self.batches,
                pct_start=0.25,
                anneal_strategy="linear",
                cycle_momentum=False,
            )
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train(data: Data, seed: int) -> Result:
        torch.manual_seed(seed)
        mean, std = float(data.train_images.mean()), float(data.train_images.std())
        images, labels, test, answers = (torch.from_numpy(array) for array in data)
        bordered = (F.pad(images, (1, 1, 1, 1)) - mean) / std
        batches = DataLoader(
            TensorDataset(bordered, labels), batch_size=config["batch_size"], shuffle=True, drop_last=True
        )
        tests = DataLoader(TensorDataset((test - mean) / std, answers), batch_size=len(test))
        stop = lightning.pytorch.callbacks.EarlyStopping("value", stopping_threshold=TARGET, mode="max", patience=1000)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=2 * config["epochs"],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[stop],
        )
        model = Digits(len(batches))
        start = time.perf_counter()
        trainer.fit(model, batches, tests)
        return Result(time.perf_counter() - start, float(trainer.callback_metrics["value"]))

    return train


def refereed(name: str, loader: str, folder: Path) -> Train:
    """A baseline of the kit, by `kit run`."""

    def train(_: Data, seed: int) -> Result:
        with tempfile.TemporaryDirectory(dir=folder) as results:
            command = [sys.executable, "-m", "kit.cli", "run", f"submission=baselines/{name}", f"seed={seed}"]
            places = [f"results_dir={results}", f"data_dir={folder / 'data'}"]
            subprocess.run(
                [*command, f"loader={loader}", "count_flops=false", *places],
                cwd=ROOT,
                check=False,
                capture_output=True,
            )
            (path,) = Path(results).glob("*/record.json")
            record = json.loads(path.read_text())
        best = max((evaluation["value"] for evaluation in record["evaluations"]), default=0.0)
        return Result(record["time"]["to_target_s"] or record["time"]["total_s"], best)

    return train


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.parent.name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _config(name: str) -> dict[str, Any]:
    from kit.submission.manifest import load

    return load(ROOT / "baselines" / name).config


def noise(data: Data) -> Data:
    """A little data of the same kind, to warm up on."""
    random = np.random.default_rng(0)
    images = [random.random(array[:128].shape, np.float32) for array in (data.train_images, data.test_images)]
    return Data(images[0], data.train_labels[:128], images[1], data.test_labels[:128])


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--loader", choices=["dali", "torch"], default="torch")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")  # that the perceptron stopped early
    data = load_data()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        competitors: dict[str, Train] = {
            "kit: digits_rbf": refereed("digits_rbf", arguments.loader, folder),
            "kit: digits_cnn": refereed("digits_cnn", arguments.loader, folder),
            "SVC()": svc(),
            "SVC(C=10, gamma=0.2)": svc(C=10, gamma=0.2),
            "MLPClassifier()": mlp(),
            "plain PyTorch loop": plain_loop,
        }
        if importlib.util.find_spec("lightning"):
            competitors["Lightning, network of digits_cnn"] = lightning_trainer()
        else:
            print("lightning is not installed: left out (pip install lightning, in an environment of its own)")
        for train in competitors.values():
            train(noise(data), 0)
        results: dict[str, list[Result]] = {name: [] for name in competitors}
        for number in range(arguments.rounds):
            first = number % len(competitors)
            for name in [*competitors][first:] + [*competitors][:first]:
                results[name].append(competitors[name](data, number))
                result = results[name][-1]
                print(f"round {number:2d}   {name:34s} {result.seconds:8.3f} s   {result.value:.2%}", flush=True)
    print("| | median, s | quartiles | reached | median accuracy |\n|---|---|---|---|---|")
    for name, runs in sorted(results.items(), key=lambda item: _rank(item[1])):
        print(_row(name, runs))


def _rank(runs: list[Result]) -> tuple[bool, float]:
    """Whoever reaches the target in most of its runs comes first; then by time."""
    reached = sum(run.value >= TARGET for run in runs)
    return 2 * reached <= len(runs), statistics.median(run.seconds for run in runs)


def _row(name: str, runs: list[Result]) -> str:
    low, middle, high = statistics.quantiles([run.seconds for run in runs], n=4)
    reached = sum(run.value >= TARGET for run in runs)
    interval = wilson(reached, len(runs))
    value = statistics.median(run.value for run in runs)
    return (
        f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {reached} of {len(runs)} "
        f"({interval.low:.0%} to {interval.high:.0%}) | {value:.2%} |"
    )


if __name__ == "__main__":
    main()
