"""Executes the lessons through nbclient; with --write keeps their outputs.

    python kernel/tests/lessons.py            every lesson, nothing is written
    python kernel/tests/lessons.py --write 01 the first, its outputs kept in the file
"""

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import time

import nbclient
import nbformat

# Lesson 10 asks the hub for a real CLIP; here it is to show what it does without one.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

LESSONS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
#: Seconds that a whole lesson may take.
LIMIT = 300
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


@contextlib.contextmanager
def workplace():
    """An empty folder to run in, beside the same `tests` as the lessons' own: what a lesson writes is thrown away."""
    with tempfile.TemporaryDirectory() as parent:
        (pathlib.Path(parent) / "tests").symlink_to(LESSONS.parent / "tests")
        folder = pathlib.Path(parent) / LESSONS.name
        folder.mkdir()
        yield str(folder)


def execute(notebook, folder, limit=LIMIT):
    """Runs all cells with one deadline for all together; a failing cell raises."""
    deadline = time.monotonic() + limit
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="lafter",
        timeout_func=lambda cell: max(1, deadline - time.monotonic()),
        record_timing=False,
        resources={"metadata": {"path": folder}},
    )
    client.execute()


def faults(notebook):
    """What a lesson's outputs lack, a line each; empty for a lesson that was run from top to bottom and shows no error."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    found = []
    for number, cell in enumerate(cells, 1):
        if cell.execution_count != number:
            found.append(f"cell {number}: execution count {cell.execution_count}; run all cells in order and save")
        found += [f"cell {number}: {output.ename}: {output.evalue}" for output in cell.outputs if output.output_type == "error"]
        found += [f"cell {number}: a figure is shown as text; let the last expression borrow, not move, what it draws"
                  for output in cell.outputs if set(output.get("data", ())) == {"text/plain"}
                  and output.data["text/plain"].startswith("Figure(")]
        found += [
            f"cell {number}: says on standard error: {output.text.splitlines()[0]}"
            for output in cell.outputs
            if output.output_type == "stream" and output.name == "stderr" and output.text.strip()
        ]
    if cells and not any(cell.outputs for cell in cells):
        found.append("no outputs")
    return found


def write(notebook, path):
    """Keeps the outputs, without what differs from machine to machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = {}
    nbformat.validate(notebook)
    text = nbformat.writes(notebook, ensure_ascii=False).replace(str(pathlib.Path.home()), "~")
    path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", help="beginnings of file names; all without any")
    arguments.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    options = arguments.parse_args()
    failed = 0
    for path in paths(options.names):
        notebook, started = read(path), time.monotonic()
        try:
            with workplace() as folder:
                execute(notebook, folder)
            problems = faults(notebook)
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
