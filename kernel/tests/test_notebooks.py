"""Executes notebooks through nbclient, as nbconvert does; the lessons' loop is in lessons.py."""

import tempfile
import unittest

import nbclient
import nbformat

import lessons

CELLS = [
    "let clip = Clip::demo()?;\nlet classes = data::scenes::class_names();",
    "let texts = TextSet::new(&classes)?.with_templates(&Templates::clip_ensemble());\n"
    "let mut lafter = LaFTer::new(clip, &classes).preset(Preset::Demo);\nlafter.fit_text(&texts)?;",
    "let pictures = Dataset::new(data::scenes::Scenes::new(data::scenes::Domain::Target, 200, 1));\n"
    "lafter.evaluate(&pictures, |_| {})?",
]


class Notebooks(unittest.TestCase):
    def test_a_notebook_of_three_cells(self):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
        with tempfile.TemporaryDirectory() as folder:
            lessons.execute(notebook, folder)
        last = notebook.cells[-1].outputs
        self.assertTrue(any("text/html" in output.get("data", {}) for output in last), last)

    def test_a_failure_stops_the_notebook(self):
        for code in ('panic!("no");', 'Clip::from_dir("/no/such/folder")?;', "no_such_name"):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
            with self.assertRaises(nbclient.exceptions.CellExecutionError):
                lessons.execute(notebook, ".")


class Lessons(unittest.TestCase):
    def test_every_lesson_runs_from_top_to_bottom_and_its_solutions_after_it(self):
        for path in lessons.paths():
            with self.subTest(path.name), lessons.workplace() as folder:
                tried = lessons.with_solutions(lessons.read(path))
                lessons.execute(tried, folder)
                self.assertEqual(lessons.faults(tried), [])

    def test_a_solution_that_fails_is_named_and_not_kept(self):
        folded = ["```rust\nprintln!(\"{}\", x + 1);\n```\nSo.", "```rust\nno_such_name\n```", "```rust\nlet y = x;\n```", "No code."]
        text = "".join(f"<details><summary>Solution</summary>\n\n{solution}\n</details>\n" for solution in folded)
        cells = [nbformat.v4.new_code_cell("let x = 1;\nx"), nbformat.v4.new_markdown_cell(text)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        tried = lessons.with_solutions(notebook)
        lessons.execute(tried, ".")
        found = lessons.faults(tried)
        self.assertEqual([fault.split(":")[0] for fault in found], ["solution 2", "solution 3", "solution 4"], found)
        self.assertEqual(lessons.faults(notebook), [])
        self.assertEqual(len(notebook.cells), 2)

    def test_every_lesson_is_kept_with_its_outputs(self):
        for path in lessons.paths():
            with self.subTest(path.name):
                notebook = lessons.read(path)
                nbformat.validate(notebook)
                self.assertEqual(lessons.faults(notebook), [], "run kernel/tests/lessons.py --write")
                self.assertEqual(notebook.metadata.kernelspec, lessons.METADATA["kernelspec"])
                self.assertLess(path.stat().st_size, lessons.LARGEST)

    def test_every_lesson_has_the_common_form(self):
        for path in lessons.paths():
            with self.subTest(path.name):
                cells = lessons.read(path).cells
                text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
                self.assertRegex(cells[0].source, rf"^# {path.name[:2]} · .+: .+")
                self.assertIn("src/", cells[0].source, "the first cell names the files to copy")
                self.assertIn("// ←", "\n".join(cell.source for cell in cells if cell.cell_type == "code"))
                self.assertIn("## Exercises", cells[-1].source)
                self.assertGreaterEqual(cells[-1].source.count("<details>"), 2)
                self.assertEqual(text.count("<details>"), text.count("</details>"))

    def test_a_bad_lesson_is_found(self):
        cell = nbformat.v4.new_code_cell("1", execution_count=2, outputs=[nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])])
        found = lessons.faults(nbformat.v4.new_notebook(cells=[cell]))
        self.assertEqual(len(found), 2, found)
        self.assertEqual(lessons.faults(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])), ["no outputs"])


if __name__ == "__main__":
    unittest.main()
