"""Tables of what makes a CPU fast."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import tables
from benchmarks.tables import Rows


def depthwise(rows: Rows) -> list[str]:
    """Training steps of depthwise networks."""
    lines = []
    for row in (row for row in rows if "network" in row):
        rate = row["images_per_second"]
        norms = ", norms frozen" if row.get("norms") == "frozen" else ""
        lines.append([f"{row['network']}, {row['pixels']} px, batch {row['batch']}{norms}", rate["torch fp32"],
                      rate["torch bf16"], rate["ours fp32"], rate["ours bf16"], f"{_best(rate):.2f}x"])  # fmt: skip
    return [
        "Training steps of depthwise networks, images per second (`python -m benchmarks.speed.depthwise`); a run takes "
        "the faster precision, as measured at its start:",
        "",
        *tables.of(
            ["", "torch fp32", "torch bf16", "ours fp32", "ours bf16", "best of ours over best of torch"], lines
        ),
    ]


def _best(rate: Mapping[str, float]) -> float:
    ours, torchs = (max(value for name, value in rate.items() if name.startswith(side)) for side in ("ours", "torch"))
    return ours / torchs


def memory(rows: Rows) -> list[str]:
    """What keeping freed memory gains."""
    lines = [
        [f"{row['network']}, {row['pixels']} px, batch {row['batch']}, {row['precision']}",
         row["default"]["images_per_second"], row["kept"]["images_per_second"], f"{row['gain']:.2f}x"]
        for row in rows
    ]  # fmt: skip
    return [
        "The same steps when the process keeps the memory that it frees, as the command line does "
        "(`python -m benchmarks.speed.memory`), images per second:",
        "",
        *tables.of(["", "default", "kept", "gain"], lines),
    ]


def probe(rows: Rows) -> list[str]:
    """A probe on cached features."""
    case = {row["case"]: row for row in rows}
    ours, loop, plain = (case[name] for name in ("ours", "frozen loop", "cached fp32"))
    return [
        f"A linear probe on {ours['images']} photos at {ours['size']} px: 20 epochs through the frozen backbone take "
        f"{loop['seconds']:.0f} s, the same 20 epochs on features computed once in fp32 {plain['seconds']:.1f} s "
        f"({plain['speedup']:.0f}x), ours (bf16 features, L-BFGS, L2 cross-validated) {ours['seconds']:.1f} s "
        f"({ours['speedup']:.0f}x) (`python -m benchmarks.speed.probe`)."
    ]


CPU = (depthwise, memory, probe)
