"""Times on processors and graphics cards, and what was trained on the latter, as tables."""

from __future__ import annotations

from ..files.provenance import stored
from .markdown import paragraph, table
from .studies import PSNR, read


def speed() -> str:
    """`network.fast` against the plain equations."""
    heads = [
        "threads",
        "plain [s]",
        "fast [s]",
        "plain / fast, pair by pair",
        "of the convolution ceiling",
        "memory, fast / plain",
    ]
    stored_times = [read("benchmark_cpu.json"), read("benchmark_cpu_one_thread.json")]
    rows = (_speed_cells(row, one["threads"]) for one in stored_times for row in one["rows"])
    return table(["preset", "what", *heads], rows, 2)


def _speed_cells(row: dict, threads: int) -> list[str]:
    seconds, ratio = row["seconds"], row["ratio"]
    share, memory = row.get("share_of_convolution_ceiling"), row.get("memory_growth_bytes")
    return [
        f"`{row['preset']}`",
        f"{row['what']}, {row['batch']} × {row['size']} × {row['size']} px",
        str(threads),
        f"{seconds['plain']:.3f}",
        f"{seconds['fast']:.3f}",
        f"{ratio['median']:.2f} ({ratio['lowest']:.2f}–{ratio['highest']:.2f})",
        f"{share['fast']:.0%}" if share else "",
        f"{memory['fast'] / memory['plain']:.0%}" if memory else "",
    ]


def gpu_times() -> str:
    """The paper's network and image size on each card that `make gpu` ran on."""
    rows = [
        [
            timing["device"]["name"],
            f"{row['pass']}, {row['precision']}{', compiled' if row['compiled'] else ''}",
            f"{1e3 * row['seconds']:.0f}",
            f"{1e3 * row['launch_seconds']:.0f}",
            f"{row['peak_memory_mib']:,.0f}",
        ]
        for timing in stored("gpu_timing_*.json")
        for row in timing.get("rows", [])
        if row["image_size"] == 256 and row["channels_last"] and "seconds" in row
    ]
    return table(["card", "what", "time [ms]", "launching it [ms]", "peak memory [MiB]"], rows, 2)


def gpu_trainings() -> str:
    """The full-size network after minutes on a card."""
    heads = ["steps", "training [s]", "pooled PSNR [dB]", "SAM [°]", "gates Q, K, V, Z"]
    rows = [
        [
            name,
            str(row["config"]["steps"]),
            f"{row['training_seconds']:.0f}",
            f"{row['scores'][PSNR]:.2f}",
            f"{row['scores']['sam_degrees']:.2f}",
            ", ".join(f"{gate:.2f}" for gate in row["scores"]["gate_means"]),
        ]
        for learnt in stored("gpu_training_*.json")
        for name, row in learnt.get("variants", {}).items()
    ]
    return table(["trained as", *heads], rows)


def reading_of_gpu_trainings() -> str:
    """What may be concluded from them."""
    bicubic = read("classical_4bands.json")["baselines"]["bicubic"][PSNR]
    seconds = max(
        row["training_seconds"]
        for learnt in stored("gpu_training_*.json")
        for row in learnt.get("variants", {}).values()
    )
    return paragraph(
        f"""Four Landsat bands, one seed, bfloat16, crops of 64 pixels in batches of 16, at most
        {seconds:.0f} seconds each: a beginning of the paper's 600 epochs and no repetition of them.
        Bicubic has {bicubic:.2f} dB on the same pixels. The third row starts with open gates and
        has a closed form as a skip, which the paper does not."""
    )


def tiles() -> str:
    """Fusion of large images in tiles."""
    heads = ["time [s]", "CPU seconds per megapixel", "peak memory of the process [MiB]"]
    rows = (
        [
            row["pixels"],
            f"{row['seconds']:.0f}",
            f"{row['cpu_seconds_per_megapixel']:.0f}",
            f"{row['peak_mib']:,}",
        ]
        for row in read("tiling.json")["scaling"]
    )
    return table(["HR image, 172 bands", *heads], rows)
