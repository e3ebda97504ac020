"""Hardware from the free text that people write: "16 nodes (8*V100 each)", "p3.16xlarge", "half of a TPUv2 pod".

A text is read as nouns with counts: devices, machines, nodes. What it leaves open is either assumed, and then said, or
refused.
"""

import difflib
from collections.abc import Iterable
from fractions import Fraction

from pydantic import Field

from kit.errors import KitError
from kit.hardware.reading import EXAMPLE, EXAMPLE_NODES, Noun, Reader, Reading, UnclearError, UnknownError
from kit.hardware.specs import GpuSpec, all_specs, spec_named
from kit.hardware.words import Machine, Vocabulary, squeeze, vocabulary
from kit.track import Model

SHOWN_CHARACTERS = 120
SUGGESTIONS = 3


class Hardware(Model):
    """What a run was on."""

    spec: GpuSpec
    count: int = Field(ge=1)
    """Devices: GPUs as a program sees them (a K80 board is two), TPU chips."""
    text: str
    """As it was written."""
    instance: str | None
    """The rented instance or sold system that the text names."""
    assumed: str | None
    """What the text leaves open and the count or the spec rests on."""


def parse_hardware(text: str) -> Hardware:
    """The accelerators that a text describes.

    Raises:
        KitError: It names none of the table, more than one kind, or leaves open what cannot be assumed.
    """
    words = vocabulary()
    try:
        reading = Reader(words).read(text)
        machine = _machine(reading, words)
        specs = _candidates(reading, machine, words)
        spec, assumed = _choose(specs)
        count, counted = _count(reading, machine, spec, words)
    except UnclearError as problem:
        raise KitError(f"{problem.what} '{_shown(text)}': {problem}") from None
    return Hardware(
        spec=spec,
        count=count,
        text=text,
        instance=machine.name if machine else None,
        assumed=", ".join(filter(None, (assumed, counted))) or None,
    )


def _machine(reading: Reading, words: Vocabulary) -> Machine | None:
    names = {noun.token.key for noun in reading.of("machine")}
    if len(names) > 1:
        raise UnclearError(
            f"names {_listed(words.machines[name].name for name in names)}; expected one kind of machine"
        )
    return words.machines[names.pop()] if names else None


def _candidates(reading: Reading, machine: Machine | None, words: Vocabulary) -> list[GpuSpec]:
    """The rows that all that is said allows."""
    devices = reading.of("device")
    if not devices and machine is None:
        raise _unknown(reading, words)
    specs = list(all_specs())
    if machine is not None:
        specs = [spec for name in machine.devices if (spec := spec_named(name)) is not None]
    for noun in devices:
        families = words.families[noun.token.key]
        narrowed = [spec for spec in specs if spec.family in families]
        if not narrowed:
            what = _listed(_families(specs)) if machine is None or len(specs) < 5 else machine.name
            raise UnclearError(f"names {_listed(families)} beside {what}; expected one kind of accelerator")
        specs = narrowed
    return _of_memory(_of_form(specs, reading, words), reading)


def _of_form(specs: list[GpuSpec], reading: Reading, words: Vocabulary) -> list[GpuSpec]:
    told = {words.forms[word] for word in reading.forms}
    forms = {spec.form for spec in specs if spec.form}
    said = {form for form in forms if form in told or ("SXM" in told and form.startswith("SXM"))}
    hinted = {words.hints.get(spec.family, {}).get(word) for spec in specs for word in reading.forms}
    if forms and (foreign := told & {spec.form for spec in all_specs()} - forms - {"SXM"}):
        raise UnclearError(f"{_listed(_families(specs))} is known as {_listed(forms)}, not as {_listed(foreign)}")
    wanted = said or (forms & hinted)
    return [spec for spec in specs if spec.form in wanted] if wanted else specs


def _of_memory(specs: list[GpuSpec], reading: Reading) -> list[GpuSpec]:
    fitting = [spec for spec in specs if spec.memory_gb in reading.memory_gb]
    if not fitting and reading.own_memory_gb:
        given = _listed(f"{size:g} GB" for size in reading.own_memory_gb)
        known = _listed(f"{spec.memory_gb:g} GB" for spec in specs)
        raise UnclearError(f"{_listed(_families(specs))} is known with {known}, not with {given}")
    return fitting or specs


def _choose(specs: list[GpuSpec]) -> tuple[GpuSpec, str]:
    """The first of the rows that are left, and in what the others differ."""
    families = _families(specs)
    if len(families) > 1:
        raise UnclearError(f"may be {' or '.join(families)}; say which")
    chosen = specs[0]
    assumed = [chosen.form] if len({spec.form for spec in specs}) > 1 else []
    if len({spec.memory_gb for spec in specs}) > 1:
        assumed.append(f"{chosen.memory_gb:g}GB")
    return chosen, " ".join(filter(None, assumed))


def _count(reading: Reading, machine: Machine | None, spec: GpuSpec, words: Vocabulary) -> tuple[int, str]:
    """How many devices, and what of that is assumed."""
    told, assumed = _told(reading, spec, words)
    nodes = _only({noun.count for noun in reading.of("node") if noun.count is not None}, "nodes")
    if machine is not None:
        stated = _only({noun.count for noun in reading.of("node", "machine") if noun.count is not None}, "machines")
        total = _of_machines(told, stated, machine, each=reading.each)
        assumed = ""
    elif nodes is not None:
        total, assumed = _of_nodes(told, nodes, reading, assumed)
    elif told is None:
        total, assumed = Fraction(1), "1 chip" if spec.family in words.tpus else "1 device"
    else:
        total = told
    if total.denominator != 1 or total < 1:
        raise UnclearError(f"counts {total} devices; expected a whole number")
    return int(total), assumed


def _told(reading: Reading, spec: GpuSpec, words: Vocabulary) -> tuple[Fraction | None, str]:
    """The devices that are counted in words, and what is assumed of the unit."""
    counts: set[Fraction] = set()
    assumed = ""
    for noun in reading.of("device", "unit"):
        unit = _unit(noun, words)
        per_unit, doubt = _per_unit(noun, unit, spec, words)
        count = noun.count
        if noun.token.kind == "device" and noun.token.value is not None:
            count = noun.token.value if count is None else count * noun.token.value
        elif count is None and unit in ("pod", "board", "device"):
            count, doubt = Fraction(1), f"1 {unit}"
        if count is not None and per_unit is not None:
            counts.add(count * per_unit)
            assumed = doubt
    return _only(counts, "devices"), assumed


def _unit(noun: Noun, words: Vocabulary) -> str:
    """What a noun counts, where the text says it."""
    if noun.token.kind == "unit":
        return noun.token.key
    return noun.unit or ("device" if noun.token.key in words.cloud_devices else "")


def _per_unit(noun: Noun, unit: str, spec: GpuSpec, words: Vocabulary) -> tuple[Fraction | None, str]:
    """Devices of the table per unit (None where it counts something else), and what is assumed."""
    chips = words.tpus.get(spec.family)
    if chips is None:
        if noun.token.kind == "device" and noun.token.value is not None:
            raise UnclearError(f"cannot tell what '{noun.token.value}' counts; {EXAMPLE}")
        if unit == "pod":
            raise UnclearError(f"cannot tell how many {spec.family} a pod is; {EXAMPLE}")
        return {"board": Fraction(spec.per_board), "core": None}.get(unit, Fraction(1)), ""
    if noun.token.kind == "device" and noun.token.value is not None:
        return chips["slice"], ""
    return (chips[unit], "") if unit in chips else (Fraction(1), "counted in chips")


def _of_machines(told: Fraction | None, stated: Fraction | None, machine: Machine, *, each: bool) -> Fraction:
    per_machine = Fraction(machine.count)
    if stated is not None:
        whole = stated * per_machine
        if told in (None, per_machine, whole):
            return whole
        if each and told is not None and told < per_machine:
            return stated * told
    elif told is None:
        return per_machine
    elif told <= per_machine or told % per_machine == 0:
        return told
    raise UnclearError(f"counts {told} devices, but {machine.name} has {machine.count}")


def _of_nodes(told: Fraction | None, nodes: Fraction, reading: Reading, assumed: str) -> tuple[Fraction, str]:
    if told is None:
        raise UnclearError(f"counts {nodes} nodes, but not the devices of each; write as in '{nodes} nodes x 8 x V100'")
    if reading.each:
        return nodes * told, assumed
    if next(noun for noun in reading.nouns if noun.count is not None).token.kind == "node":
        return nodes * told, ", ".join(filter(None, (assumed, f"{told} in each node")))
    if nodes == 0 or told % nodes:
        raise UnclearError(f"counts {told} devices on {nodes} nodes; {EXAMPLE_NODES}")
    return told, assumed


def _only(counts: set[Fraction], what: str) -> Fraction | None:
    if len(counts) > 1:
        raise UnclearError(f"counts {' and '.join(map(str, sorted(counts)))} {what}; expected one number")
    return next(iter(counts), None)


def _unknown(reading: Reading, words: Vocabulary) -> UnknownError:
    if reading.cpus:
        return UnknownError("names no accelerator; the table holds GPUs and TPUs, no CPUs")
    known = {squeeze(name): name for name in (*_families(all_specs()), *(m.name for m in words.machines.values()))}
    near = dict.fromkeys(
        known[name]
        for word in reading.unknown
        for name in difflib.get_close_matches(squeeze(word), known, n=SUGGESTIONS, cutoff=0.7)
    )
    if not near:
        return UnknownError("names no accelerator of the table; write as in '8 x V100' or 'p3.16xlarge'")
    return UnknownError(f"names no accelerator of the table; did you mean {' or '.join([*near][:SUGGESTIONS])}?")


def _families(specs: Iterable[GpuSpec]) -> list[str]:
    return list(dict.fromkeys(spec.family for spec in specs))


def _listed(names: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(sorted(map(str, names))))


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"
