"""Write the table of docs/reference/benchmark.md from what `trash-classifier benchmark --json` printed; figures are never typed.

python scripts/write_benchmark.py benchmark.json
"""

import json
import sys
from pathlib import Path

PAGE = Path("docs/reference/benchmark.md")
BEGIN, END = "<!-- benchmark:begin -->", "<!-- benchmark:end -->"
HEAD = """| engine | file | threads | batch | decode | run | run, 95% | photos/s | load | peak memory | size |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def main(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    about = document["conditions"]
    height, width = about["input_size"]
    conditions = (
        f"{about['architecture']}, {height} × {width}, {about['cores']} cores; milliseconds a photo, medians; photos a "
        "second are of decoding and running one after the other."
    )
    table = HEAD + "".join(map(row, document["timings"]))
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{conditions}\n{END}{after}", encoding="utf-8")


def row(t: dict[str, float]) -> str:
    cells = [
        t["engine"],
        t["file"],
        t["threads"],
        t["batch"],
        f"{t['decode']:.1f}",
        f"{t['infer']:.1f}",
        f"{t['infer_p95']:.1f}",
        f"{t['photos_a_second']:.0f}",
        f"{t['load']:.2f} s",
        f"{t['memory']:.0f} MB",
        f"{t['size']:.1f} MB",
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
