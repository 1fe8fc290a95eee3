"""The tables on stdout, out of the record of a run and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from .measure import AGAIN, baseline_of, ratio

Model = Mapping[str, Any]

# The bars of the benchmark: against onnx2tf's float32 file at one thread, by precision and model.
BARS: Final = {
    "fp32": {"efficientvit_m0": 0.94, "efficientvit_m5": 0.94},
    "int8": {"efficientvit_m0": 0.85, "efficientvit_m5": 0.85},
    "mixed": {"efficientvit_m0": 0.80, "efficientvit_m5": 0.77},
}
# Of the direct writer on this model: its conversions, and its float32 graph.
JUDGED: Final = "efficientvit_m0"
MOST_SECONDS: Final = 3.0
MOST_BYTES: Final = 10**9
LEAST_SPEEDUP: Final = 30.0
MOST_OPERATORS: Final = 433
# Those that take windows apart and put them together.
MOST_TRANSPOSES: Final = 2
RULE: Final = "SLOWER: all of the interval is above 1. In brackets: one of the two is WRONG there."
HISTOGRAMS: Final = ("ours_fp32", "onnx2tf_fp32", "way_a_fp32", "litert_fp32", "ours_int8", "way_a_int8", "litert_int8")


def show(record: Mapping[str, Any]) -> None:
    from evit_edge.edge import show as page

    for name, model in record["models"].items():
        graphs(page, name, model, record["engines"])
        histograms(page, name, model)
        parities(page, name, model, record["engines"])
        conversions(page, name, model)
        for engine in record["engines"]:
            speeds(page, name, model, engine)
        same_precision(page, name, model)
    bars(page, record)


def labels(model: Model) -> dict[str, str]:
    return {entry["name"]: entry["label"] for entry in model["entries"]}


def graphs(page: Any, name: str, model: Model, engines: Sequence[str]) -> None:
    rows = []
    for entry, graph in ((entry, model["graphs"].get(entry["name"])) for entry in model["entries"]):
        if graph is None:
            rows.append([entry["label"], *["—"] * (3 + len(engines))])
            continue
        counts = graph["operators"]
        proofs = [model["proofs"].get(engine, {}).get(entry["name"]) for engine in engines]
        placed = [p and f"{p['partitions']}: {p['nodes_taken']}/{p['nodes']}" for p in proofs]
        cells = [f"{graph['size_bytes']:,}", str(sum(counts.values())), str(counts.get("TRANSPOSE", 0))]
        rows.append([entry["label"], *cells, *(cell or "—" for cell in placed)])
    columns = ["file", "bytes", "operators", "TRANSPOSE", *(f"{engine}: XNNPACK" for engine in engines)]
    missing = [f"{labels(model)[key]}: {reason}" for key, reason in model["missing"].items()]
    page.table(f"{name}: the files", columns, rows, footer="\n".join(["XNNPACK: partitions: nodes it runs.", *missing]))


def histograms(page: Any, name: str, model: Model) -> None:
    shown = [key for key in HISTOGRAMS if key in model["graphs"]]
    counts = [model["graphs"][key]["operators"] for key in shown]
    kinds = sorted({kind for count in counts for kind in count})
    rows = [[kind, *(str(count.get(kind, "")) for count in counts)] for kind in kinds]
    rows.append(["all", *(str(sum(count.values())) for count in counts)])
    page.table(f"{name}: operators", ["operator", *(labels(model)[key] for key in shown)], rows)


def parities(page: Any, name: str, model: Model, engines: Sequence[str]) -> None:
    from evit_edge.converters.parity import at_least, percent

    rows = []
    for entry in model["entries"]:
        cells = []
        for engine in engines:
            proof = model["proofs"].get(engine, {}).get(entry["name"])
            if proof is None:
                cells += ["—"] * 3
                continue
            mark = " WRONG" if proof["wrong"] else ""
            cells += [at_least(proof["worst"]), at_least(proof["middle"], 5) + mark, percent(proof["top1"])]
        rows.append([entry["label"], *cells])
    columns = ["file", *(word for engine in engines for word in (f"{engine}: cosine", "median", "top-1"))]
    refused = [
        f"{engine} refuses {labels(model)[key]}: {reason}"
        for engine, reasons in model["refused"].items()
        for key, reason in reasons.items()
    ]
    rule = (
        f"The lowest cosine and the median of the images, in which the eager model sees {model['classes']} classes. "
        "WRONG: float files that the parity gate would refuse, and quantized ones that have lost the model; random "
        "weights exaggerate all rounding."
    )
    page.table(f"{name}: against the eager model", columns, rows, footer="\n".join([rule, *refused]))


def conversions(page: Any, name: str, model: Model) -> None:
    costs = model["costs"]
    rows = []
    for entry in model["entries"]:
        cost, own = costs.get(entry["name"]), costs.get(f"ours_{entry['precision']}")
        if cost is None:
            continue
        times = cost["wall_s"] / own["wall_s"] if own else None
        apart = cost.get("calibration_s") or 0
        second = f"{cost['second_s']:.2f}" if "second_s" in cost else ""
        cells = [f"{cost['wall_s']:.2f}", second, f"{apart:.2f}" if apart else "", f"{cost['cpu_s']:.2f}"]
        load = f"{cost['load_average']:.1f}{', an earlier run' if cost.get('earlier') else ''}"
        cells += [f"{cost['peak_bytes'] / 1e6:.0f}", f"{times:.1f}" if times else "", load]
        rows.append([entry["label"], *cells])
    page.table(
        f"{name}: conversion",
        ["file", "s", "a second time", "calibration s", "CPU s", "peak MB", "times ours", "load"],
        rows,
        footer="From the loaded module to the file on disk. Calibration is not in the first figures where it stands "
        "apart: of onnx2tf's only the images do. A second time: again in the same process, all imports done.",
    )


def speeds(page: Any, name: str, model: Model, engine: str) -> None:
    by_threads = {threads: trials for threads, trials in model["trials"].get(engine, {}).items() if trials}
    if not by_threads:
        return
    measured = next(iter(by_threads.values()))[0]["medians_ns"]
    baseline = baseline_of(list(measured))
    known = {**labels(model), AGAIN: "the first file again (A/A)"}
    rows = []
    for key in measured:
        proof = model["proofs"][engine].get(baseline if key == AGAIN else key)
        cells = []
        for trials in by_threads.values():
            found = ratio(trials, key, str(baseline))
            milliseconds = median(trial["medians_ns"][key] for trial in trials) / 1e6
            cells += [f"{milliseconds:.3f}", *(pair(found, wrong=proof["wrong"]) if found else ("—", ""))]
        rows.append([known[key], *cells])
    columns = [word for count in by_threads for word in (f"{threaded(count)}: ms", "ratio", "interval")]
    page.table(
        f"{name}: {engine}, batch 1",
        ["file", *columns],
        rows,
        footer=f"Ratios are to {known.get(str(baseline), 'nothing')}. {footnote(by_threads, known)}",
    )


def pair(found: Mapping[str, Any], *, wrong: bool) -> tuple[str, str]:
    interval = found["interval"]
    value = f"{found['median']:.3f}"
    return f"({value})" if wrong else value, f"{interval['low']:.3f}…{interval['high']:.3f}" if interval else ""


def footnote(by_threads: Mapping[str, Sequence[Mapping[str, Any]]], known: Mapping[str, str]) -> str:
    notes = ["In brackets: files whose answers are WRONG there. Medians over processes; intervals hold at least 95 %."]
    for threads, trials in by_threads.items():
        load = median(trial["load_average"] for trial in trials)
        cut = {known[key] for trial in trials for key in trial["cut"]}
        said = f"; out of time, so measured with fewer calls: {', '.join(sorted(cut))}" if cut else ""
        notes.append(f"{threaded(threads)}: {len(trials)} processes, load average {load:.1f}{said}.")
    return "\n".join(notes)


def same_precision(page: Any, name: str, model: Model) -> None:
    """Ours over each peer's file of the same precision: above 1 is slower."""
    settings = settings_of(model)
    rows = []
    for own, peer in rivals(model):
        cells = []
        for engine, _, trials in settings:
            found = ratio(trials, own["name"], peer["name"])
            cells.append(verdict(found, counts=both_right(model, engine, own, peer)) if found else "—")
        rows.append([own["label"], peer["label"], *cells])
    if rows:
        columns = ["file", "over", *(f"{engine}, {threaded(threads)}" for engine, threads, _ in settings)]
        page.table(f"{name}: at the same precision", columns, rows, footer=RULE)


def settings_of(model: Model) -> list[tuple[str, str, list[Any]]]:
    return [(e, t, trials) for e, known in model["trials"].items() for t, trials in known.items() if trials]


def rivals(model: Model) -> list[tuple[Any, Any]]:
    """Each file of ours with each one of a peer that it has to beat; nobody else has `mixed`."""
    own = [entry for entry in model["entries"] if entry["tool"] == "ours"]
    others = [entry for entry in model["entries"] if entry["tool"] != "ours"]
    wanted = {"mixed": "int8"}
    return [(o, p) for o in own for p in others if p["precision"] == wanted.get(o["precision"], o["precision"])]


def threaded(count: str) -> str:
    return "1 thread" if count == "1" else f"{count} threads"


def both_right(model: Model, engine: str, *entries: Mapping[str, Any]) -> bool:
    proofs = model["proofs"][engine]
    return not any(proofs[entry["name"]]["wrong"] for entry in entries)


def verdict(found: Mapping[str, Any], *, counts: bool) -> str:
    value = f"{found['median']:.3f}"
    return f"{value}{' SLOWER' if is_slower(found) else ''}" if counts else f"({value})"


def is_slower(found: Mapping[str, Any] | None) -> bool:
    return bool(found and found["interval"] and found["interval"]["low"] > 1)


def bars(page: Any, record: Mapping[str, Any]) -> None:
    rows: list[list[str]] = []
    for name, model in record["models"].items():
        rows += [[name, *row] for row in speed_bars(name, model)]
        if name == JUDGED:
            rows += [[name, *row] for row in (*conversion_bars(model), *graph_bars(model))]
    page.table("The bars", ["model", "what", "bar", "found", ""], rows)


def judged(what: str, value: float, bar: float, *, least: bool = False, digits: int = 3) -> list[str]:
    met = value >= bar if least else value <= bar
    sign = "≥" if least else "≤"
    return [what, f"{sign} {bar:g}", f"{value:.{digits}f}", "met" if met else "missed"]


def speed_bars(name: str, model: Model) -> list[list[str]]:
    rows = []
    for engine, by_threads in model["trials"].items():
        trials = by_threads.get("1") or []
        for precision, bar in BARS.items():
            found = ratio(trials, f"ours_{precision}", "onnx2tf_fp32")
            if found and name in bar:
                rows.append(judged(f"{precision} over onnx2tf fp32, {engine}, 1 thread", found["median"], bar[name]))
    compared = [
        found
        for own, peer in rivals(model)
        for engine, _, trials in settings_of(model)
        if (found := ratio(trials, own["name"], peer["name"])) and both_right(model, engine, own, peer)
    ]
    if compared:
        what = f"slower than a peer, of {len(compared)} comparisons at the same precision"
        rows.append(judged(what, sum(map(is_slower, compared)), 0, digits=0))
    return rows


def conversion_bars(model: Model) -> list[list[str]]:
    rows, costs = [], model["costs"]
    for entry in (entry for entry in model["entries"] if entry["tool"] == "ours" and entry["name"] in costs):
        cost, precision = costs[entry["name"]], entry["precision"]
        rows.append(judged(f"{precision}: seconds", cost["wall_s"], MOST_SECONDS, digits=2))
        rows.append(judged(f"{precision}: peak MB", cost["peak_bytes"] / 1e6, MOST_BYTES / 1e6, digits=0))
        if way_a := costs.get(f"way_a_{precision}"):
            speedup = way_a["wall_s"] / cost["wall_s"]
            when = " (of an earlier run)" if way_a.get("earlier") else ""
            rows.append(
                judged(f"{precision}: way A's seconds{when} over ours", speedup, LEAST_SPEEDUP, least=True, digits=1)
            )
    return rows


def graph_bars(model: Model) -> list[list[str]]:
    graph = model["graphs"].get("ours_fp32")
    if graph is None:
        return []
    counts = graph["operators"]
    rows = [judged("fp32: operators", sum(counts.values()), MOST_OPERATORS, digits=0)]
    rows.append(judged("fp32: TRANSPOSE", counts.get("TRANSPOSE", 0), MOST_TRANSPOSES, digits=0))
    for engine, proofs in model["proofs"].items():
        if "ours_fp32" in proofs and engine.startswith("LiteRT"):
            rows.append(judged(f"fp32: partitions, {engine}", proofs["ours_fp32"]["partitions"], 1, digits=0))
    return rows
