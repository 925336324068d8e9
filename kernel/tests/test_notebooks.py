"""Executes a notebook through nbclient, as nbconvert and the lessons' test do."""

import pathlib
import tempfile
import unittest

import nbclient
import nbformat

LESSONS = pathlib.Path(__file__).resolve().parents[2] / "notebooks"

CELLS = [
    "let clip = Clip::demo()?;\nlet classes = data::scenes::class_names();",
    "let texts = TextSet::new(&classes)?.with_templates(&Templates::clip_ensemble());\n"
    "let mut lafter = LaFTer::new(clip, &classes).preset(Preset::Demo);\nlafter.fit_text(&texts)?;",
    "let pictures = Dataset::new(data::scenes::Scenes::new(data::scenes::Domain::Target, 200, 1));\n"
    "lafter.evaluate(&pictures, |_| {})?",
]


def execute(notebook, folder):
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="lafter", resources={"metadata": {"path": folder}}).execute()


class Notebooks(unittest.TestCase):
    def test_a_notebook_of_three_cells(self):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        last = notebook.cells[-1].outputs
        self.assertTrue(any("text/html" in output.get("data", {}) for output in last), last)

    def test_a_failure_stops_the_notebook(self):
        for code in ('panic!("no");', 'Clip::from_dir("/no/such/folder")?;', "no_such_name"):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
            with self.assertRaises(nbclient.exceptions.CellExecutionError):
                execute(notebook, ".")

    def test_the_lessons(self):
        for path in sorted(LESSONS.glob("*.ipynb")):
            with self.subTest(path.name), tempfile.TemporaryDirectory() as folder:
                execute(nbformat.read(path, as_version=4), folder)


if __name__ == "__main__":
    unittest.main()
