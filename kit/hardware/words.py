"""The words that people describe hardware with: from text to tokens, by the vocabulary of `table/names.yaml`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Literal

import yaml

from kit.hardware.specs import GpuSpec, all_specs, table

Kind = Literal[
    "machine", "device", "memory", "number", "times", "unit", "node", "each", "form", "cpu", "filler", "word", "break"
]
NOT_IN_A_NAME = r"[\s_()\[\]-]*"


@dataclass(frozen=True)
class Token:
    """One word, and what it means."""

    kind: Kind
    text: str
    value: Fraction | None = None
    """Of a number, of memory in GB, and of a TPU slice ("v3-32") its number."""
    key: str = ""
    """Of a word of the vocabulary, its entry there."""


@dataclass(frozen=True)
class Machine:
    """An instance or system that is sold under a name."""

    name: str
    count: int
    devices: tuple[str, ...]
    """Names of rows of the device table, the likeliest first."""


@dataclass(frozen=True)
class Vocabulary:
    """What `table/names.yaml` and the device table say, by squeezed spelling."""

    families: Mapping[str, frozenset[str]]
    machines: Mapping[str, Machine]
    forms: Mapping[str, str]
    units: Mapping[str, str]
    numbers: Mapping[str, Fraction]
    hints: Mapping[str, Mapping[str, str]]
    tpus: Mapping[str, Mapping[str, Fraction]]
    cloud_devices: frozenset[str]
    patterns: tuple[tuple[Kind, re.Pattern[str]], ...] = field(repr=False)

    def tokens(self, text: str) -> Iterator[Token]:
        """The words of a text; what is not known is a `word`."""
        text, at = text.casefold(), 0
        while at < len(text):
            for kind, pattern in self.patterns:
                if found := pattern.match(text, at):
                    yield self._token(kind, found)
                    at = found.end()
                    break
            else:
                at += 1

    def _token(self, kind: Kind, found: re.Match[str]) -> Token:
        text, groups = found.group(), found.groupdict()
        key = squeeze(groups.get("name") or text)
        if groups.get("amount"):
            return Token(kind, text, Fraction(groups["amount"].replace(" ", "")), key)
        if kind == "number":
            return Token(kind, text, self.numbers[key])
        return Token(kind, text, key=self.units[key] if kind == "unit" else key)


def squeeze(text: str) -> str:
    """A spelling without case and separators."""
    return re.sub(r"[^a-z0-9.]", "", text.casefold())


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary, read once."""
    names = yaml.safe_load(table("names.yaml"))
    specs = all_specs()
    families: dict[str, frozenset[str]] = {}
    spelled: list[str] = []
    for family in dict.fromkeys(spec.family for spec in specs):
        for spelling in names["spellings"].get(family, [family]):
            spelled.append(spelling)
            families[squeeze(spelling)] = families.get(squeeze(spelling), frozenset()) | {family}
    machines = [
        Machine(name, row["count"], tuple(row["devices"])) for row in names["machines"] for name in row["names"]
    ]
    forms = _forms(specs) | {word: word for hints in names["hints"].values() for word in hints}
    units = {word: unit for unit, words in names["units"].items() for word in words}
    ends = r"(?![a-z0-9])|(?=x\s*\d)|(?=sxm|pcie)"
    device = _any(spelled)
    machine = _any(machine.name for machine in machines)
    filler = _any(names["fillers"])
    number = r"\d{1,9}(?:\.\d{1,9})?"
    patterns: list[tuple[Kind, str]] = [
        ("break", r"[()\[\],;:|+]|\s-\s|/"),
        ("machine", rf"(?P<name>{machine})s?(?:{ends}|(?=_n\d))"),
        ("device", rf"(?P<name>{device})s?(?:-(?P<amount>\d{{1,9}})(?![\w.]|\s*g))?(?:{ends})"),
        ("memory", rf"(?P<amount>{number})\s*g(?:i?b)?(?![a-z0-9]|/s)"),
        ("number", r"(?P<amount>\d{1,9}\s*/\s*[1-9]\d{0,8})(?=\s+of\b)"),
        ("number", rf"(?P<amount>{number})(?=[^\w.]|$|x|\.(?:\s|$))"),
        ("node", r"_n(?P<amount>\d{1,9})(?![a-z0-9])"),
        ("times", rf"[*\u00d7]|x(?![a-z0-9])|x(?=\d)|x(?=(?:{machine}|{device}|{filler})s?(?:{ends}))"),
        ("form", rf"(?P<name>{_any(forms)})(?![a-z0-9])"),
        ("unit", rf"(?:{_any(units)})(?![a-z0-9])"),
        ("node", rf"(?:{_any(names['nodes'])})(?![a-z0-9])"),
        ("each", rf"(?:{_any(names['each'])})(?![a-z0-9])"),
        ("cpu", rf"(?:{_any(names['cpus'])})(?![a-z0-9])"),
        ("number", rf"(?:{_any(names['numbers'])})(?![a-z0-9])"),
        ("filler", rf"(?:{filler})(?![a-z0-9])"),
        ("word", r"[a-z0-9][a-z0-9_.]*(?:-\d[a-z0-9.]*)*"),
    ]
    return Vocabulary(
        families=families,
        machines={squeeze(machine.name): machine for machine in machines},
        forms=forms,
        units=units,
        numbers={word: Fraction(value) for word, value in names["numbers"].items()},
        hints=names["hints"],
        tpus={
            family: {unit: Fraction(chips) for unit, chips in units.items()} for family, units in names["tpus"].items()
        },
        cloud_devices=frozenset(map(squeeze, names["cloud_devices"])),
        patterns=tuple((kind, re.compile(pattern)) for kind, pattern in patterns),
    )


def _forms(specs: Iterable[GpuSpec]) -> dict[str, str]:
    """Spellings of forms; one without its number stands for any."""
    forms = {spec.form for spec in specs if spec.form}
    return {form.casefold(): form for form in forms} | {"sxm": "SXM"}


def _any(spellings: Iterable[str]) -> str:
    """A pattern of any of the spellings, the longest first."""
    ordered = sorted({spelling.casefold() for spelling in spellings}, key=len, reverse=True)
    return "|".join(
        NOT_IN_A_NAME.join(re.escape(part) for part in re.split(r"[\s_()-]+", spelling.rstrip(")")))
        for spelling in ordered
    )
