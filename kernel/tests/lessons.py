"""Executes the lessons through nbclient; with --write keeps their outputs, with --solutions tries the exercises' solutions too.

    python kernel/tests/lessons.py                every lesson, nothing is written
    python kernel/tests/lessons.py --write 01     the first, its outputs kept in the file
    python kernel/tests/lessons.py --solutions 01 the first, then each solution as one more cell (never kept)
"""

import argparse
import base64
import contextlib
import io
import os
import pathlib
import re
import sys
import tempfile
import time

import nbclient
import nbformat
from PIL import Image

# Lesson 10 asks the hub for a real CLIP; here it is to show what it does without one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LESSONS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
#: Seconds that a whole lesson may take.
LIMIT = 300
#: Seconds that it may take more where its solutions run too.
SOLUTIONS_LIMIT = 120
#: Bytes that a lesson may have, outputs included.
LARGEST = 500 * 1024
METADATA = {
    "kernelspec": {"display_name": "LaFTer (Rust)", "language": "rust", "name": "lafter"},
    "language_info": {"file_extension": ".rs", "mimetype": "text/rust", "name": "rust"},
}


def paths(names=()):
    """The notebooks whose file names begin with one of the names; all without names."""
    return [path for path in sorted(LESSONS.glob("*.ipynb")) if not names or path.name.startswith(tuple(names))]


def read(path):
    return nbformat.read(path, as_version=4)


def solutions(notebook):
    """The rust blocks of each folded solution: a list for every solution, in order."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", text, re.DOTALL)
    return [re.findall(r"^```rust\n(.*?)^```", solution, re.DOTALL | re.MULTILINE) for solution in folded]


def with_solutions(notebook):
    """A notebook of the same cells, not copies, and after them one for each block of a solution; one that fails does not stop the next."""
    added = []
    for number, blocks in enumerate(solutions(notebook), 1):
        for code in blocks or [""]:  # a solution without code is a fault, too
            metadata = {"solution": number, "tags": ["raises-exception"]}
            added.append(nbformat.v4.new_code_cell(code.rstrip("\n"), metadata=metadata))
    return nbformat.v4.new_notebook(cells=[*notebook.cells, *added], metadata=notebook.metadata)


@contextlib.contextmanager
def workplace():
    """An empty folder to run in, beside the same `tests` as the lessons' own: what a lesson writes is thrown away."""
    with tempfile.TemporaryDirectory() as parent:
        (pathlib.Path(parent) / "tests").symlink_to(LESSONS.parent / "tests")
        folder = pathlib.Path(parent) / LESSONS.name
        folder.mkdir()
        yield str(folder)


def execute(notebook, folder, limit=LIMIT):
    """Runs all cells with one deadline for all together, solutions with a later one; a failing cell raises, unless it is a solution."""
    deadline = time.monotonic() + limit

    def left(cell):
        return max(1, deadline + (SOLUTIONS_LIMIT if "solution" in cell.metadata else 0) - time.monotonic())

    client = nbclient.NotebookClient(
        notebook,
        kernel_name="lafter",
        timeout_func=left,
        record_timing=False,
        resources={"metadata": {"path": folder}},
    )
    client.execute()


def faults(notebook):
    """What a lesson's outputs lack, a line each; empty for a lesson that was run from top to bottom and shows no error."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    found = []
    for number, cell in enumerate(cells, 1):
        solution = cell.metadata.get("solution")
        name = f"solution {solution}" if solution else f"cell {number}"
        if cell.execution_count != number:
            found.append(f"{name}: execution count {cell.execution_count}; run all cells in order and save")
        if solution and not cell.outputs:
            found.append(f"{name}: shows nothing")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{name}: {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr" and output.text.strip():
                found.append(f"{name}: says on standard error: {output.text.splitlines()[0]}")
            elif set(output.get("data", ())) == {"text/plain"} and output.data["text/plain"].startswith("Figure("):
                found.append(f"{name}: a figure is shown as text")
    empty = [cell.metadata.solution for cell in notebook.cells if "solution" in cell.metadata and not cell.source]
    found += [f"solution {number}: no block that begins with ```rust" for number in empty]
    if cells and not any(cell.outputs for cell in cells):
        found.append("no outputs")
    return found


def slim(data):
    """A committed figure: SVG and a PNG of 256 colors, which every reader shows. HTML repeats them for a theme; SVG repeats a
    photograph's pixels, and of thousands of points it is the larger."""
    if "lafter-figure" not in data.get("text/html", ""):
        return
    del data["text/html"]
    vector = data.get("image/svg+xml", "")
    if "<image" in vector or len(vector) > LARGEST // 10:
        del data["image/svg+xml"]
    if "image/png" in data:
        picture, small = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGBA"), io.BytesIO()
        on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        on_white.quantize(256).save(small, "png", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()


def write(notebook, path):
    """Keeps the outputs, without what differs from machine to machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            slim(output.get("data", {}))
            if "metadata" in output:
                output.metadata = {}
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, ensure_ascii=False).replace(str(pathlib.Path.home()), "~")
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="beginnings of file names; all without any")
    arguments.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    arguments.add_argument("--solutions", action="store_true", help="after a lesson, run each solution of its exercises as a cell of its own")
    options = arguments.parse_args()
    failed = 0
    for path in paths(options.names):
        notebook, started = read(path), time.monotonic()
        try:
            with workplace() as folder:
                run = with_solutions(notebook) if options.solutions else notebook
                execute(run, folder)
            problems = faults(run)
        except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError, nbclient.exceptions.DeadKernelError) as error:
            problems = [str(error).strip()]
        seconds = time.monotonic() - started
        if options.write and not problems:
            write(notebook, path)
        size = path.stat().st_size
        print(f"{path.name}: {'failed' if problems else 'passed'} in {seconds:.1f} s, {size / 1024:.0f} KiB", flush=True)
        for problem in problems:
            print(f"  {problem}", flush=True)
        failed += bool(problems)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
