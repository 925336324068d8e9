"""What a reader of a notebook sees: live output, interrupts that keep variables, failures in one line."""

import platform
import re
import time
import unittest

from session import Session

TUNE = """
let clip = Clip::demo()?;
let classes = data::scenes::class_names();
let texts = TextSet::new(&classes)?.with_templates(&Templates::clip_ensemble());
let mut lafter = LaFTer::new(clip, &classes).preset(Preset::Demo);
let pictures = Dataset::new(data::scenes::Scenes::new(data::scenes::Domain::Target, 400, 1));
"""


class Behavior(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.session = Session()

    @classmethod
    def tearDownClass(cls):
        cls.session.close()

    def run_cell(self, code, **options):
        return self.session.run(code, **options)

    def ok(self, code, **options):
        result = self.run_cell(code, **options)
        self.assertEqual(result.status, "ok", result.reply)
        return result

    def fails(self, code, **options):
        result = self.run_cell(code, **options)
        self.assertEqual(result.status, "error", result.messages)
        return result

    def test_text_appears_while_the_cell_runs(self):
        pause = "std::thread::sleep(std::time::Duration::from_millis(300));"
        result = self.ok(f'print!("one"); {pause} print!("\\rtwo"); {pause} println!(" three"); {pause}')
        times = [at for at, kind, _ in result.messages if kind == "stream"]
        self.assertEqual(result.text(), "one\rtwo three\n")
        self.assertGreaterEqual(len(times), 3)
        self.assertGreater(result.seconds - times[0], 0.6, "the first word came long before the end")

    def test_order_of_text_and_pictures(self):
        code = 'println!("a"); let d = display("1"); println!("b"); d.update("2"); println!("c"); display(Html("<i>h</i>".into())); Markdown("**m**".into())'
        result = self.ok(code)
        kinds = ["stream", "display_data", "stream", "update_display_data", "stream", "display_data", "execute_result"]
        self.assertEqual(result.kinds(), kinds)
        self.assertIn("text/markdown", result.data()[0])
        displays = [content for _, kind, content in result.messages if kind in ("display_data", "update_display_data")]
        self.assertEqual(displays[0]["transient"]["display_id"], displays[1]["transient"]["display_id"])
        updated = self.ok('d.update("3");')
        self.assertEqual(updated.kinds(), ["update_display_data"], "a handle works from another cell")

    def test_a_figure_is_shown_also_where_it_takes_the_variable(self):
        self.ok("use lafter::plot::Series; let kept = 7; let series = Series::new(\"loss\", [3.0, 2.0, 1.0]);")
        result = self.ok('plot::curves("Loss", "step", "loss", &[series])?')
        self.assertIn("<svg", result.data()[0].get("text/html", ""))
        self.assertEqual(self.ok("kept").data()[0]["text/plain"], "7")
        self.assertIn("series", self.fails("series.clone()").error)

    def test_clear_output(self):
        self.assertEqual(self.ok('println!("x"); clear_output(true); println!("y");').kinds(), ["stream", "clear_output", "stream"])

    def test_training_shows_a_bar_and_a_curve_by_itself(self):
        self.ok(TUNE)
        result = self.ok("lafter.fit_text(&texts)?; lafter.config.tune.epochs = 6; lafter.fit_images(&pictures, |_| {})?.len()")
        self.assertEqual(result.data()[0]["text/plain"], "6", "the value, also where the curve is drawn once more behind it")
        html = [data["text/html"] for data in result.data("display_data")]
        self.assertEqual(sum("<progress" in text for text in html), 1, "one bar")
        self.assertEqual(sum("<svg" in text for text in html), 2, "a curve for the text classifier, one for the tuning")
        self.assertGreater(len(result.data("update_display_data")), 3)

    @unittest.skipUnless(platform.machine() == "x86_64", "the intrinsics that the analyzer does not read are those of AVX-512")
    def test_a_type_that_is_not_found_is_asked_for(self):
        result = self.session.run("let v = unsafe { std::arch::x86_64::_mm512_setzero_ps() };")
        self.assertEqual(result.status, "error")
        self.assertIn("give it an explicit type", result.error)
        self.ok("let v = unsafe { std::arch::x86_64::_mm_setzero_ps() };")

    def test_interrupt_of_the_library_keeps_variables(self):
        self.ok(TUNE + "lafter.fit_text(&texts)?; lafter.config.tune.epochs = 500; let kept = 7;")
        request = self.session.send("lafter.fit_images(&pictures, |_| {})?;")
        asked = []

        def stop(message):
            if message["msg_type"] == "update_display_data" and not asked:
                asked.append(time.monotonic())
                self.session.manager.interrupt_kernel()

        result = self.session.collect(request, meanwhile=stop)
        self.assertEqual(result.reply["ename"], "Interrupted")
        self.assertIn("variables from before this cell are kept", result.error)
        self.assertLess(time.monotonic() - asked[0], 0.5)
        self.assertEqual(self.ok("kept + classes.len() as i32 * 0").data()[0]["text/plain"], "7")
        self.ok("lafter.text_classifier()?;")

    def test_interrupt_of_a_loop_that_never_looks(self):
        self.ok("let lost = 1;")
        request = self.session.send('println!("go"); loop { std::hint::spin_loop(); }')
        asked = []

        def stop(message):
            if message["msg_type"] == "stream" and not asked:
                asked.append(time.monotonic())
                self.session.manager.interrupt_kernel()

        result = self.session.collect(request, meanwhile=stop)
        self.assertEqual(result.reply["ename"], "Interrupted")
        self.assertIn("3 s", result.error)
        self.assertIn("variables are lost", result.error)
        self.assertLess(time.monotonic() - asked[0], 6)
        self.assertEqual(self.ok("1 + 1").data()[0]["text/plain"], "2")

    def test_panic_is_one_line_and_keeps_variables(self):
        self.ok("let before = 5; let values = vec![1, 2];")
        result = self.fails("let größe = 3;\nprintln!(\"{}\", values[größe]);")
        self.assertEqual(result.reply["ename"], "panic")
        self.assertEqual(len(result.reply["traceback"]), 1)
        self.assertIn("line 2 of the cell", result.error)
        self.assertIn("index out of bounds", result.error)
        self.assertEqual(self.ok("before").data()[0]["text/plain"], "5")

    def test_error_at_cell_level_is_one_line(self):
        result = self.fails('Clip::from_dir("/no/such/folder")?;')
        self.assertEqual(len(result.reply["traceback"]), 1)
        self.assertIn("/no/such/folder", result.error)
        self.assertEqual(result.kinds(), ["error"])

    def test_the_end_of_the_process_is_said_and_mended(self):
        self.ok("fn twice(x: i32) -> i32 { 2 * x }")
        for code, word in (('println!("last words"); std::process::exit(3);', "exit status: 3"), ("std::process::abort();", "SIGABRT")):
            result = self.fails(code)
            self.assertEqual(result.reply["ename"], "ProcessEnded")
            self.assertIn(word, result.error)
            self.assertEqual(self.ok("twice(21)").data()[0]["text/plain"], "42", "functions are kept")
            if "words" in code:
                self.assertIn("last words", result.text())
        self.ok("Clip::demo()?;")

    def test_what_is_queued_behind_a_failure_does_not_run(self):
        first, second = self.session.send("let x: u32 = \"a\";"), self.session.send("println!(\"never\");")
        replies = {}
        while len(replies) < 2:
            message = self.session.client.get_shell_msg(timeout=60)
            replies[message["parent_header"]["msg_id"]] = message["content"]["status"]
        self.assertEqual((replies[first], replies[second]), ("error", "aborted"))

    def test_compile_errors_show_the_cells_own_line(self):
        result = self.fails("let straße = \"日本\";\nlet n: u32 = straße;")
        text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(result.reply["traceback"]))
        self.assertEqual(result.reply["ename"], "CompileError")
        self.assertIn("let n: u32 = straße;", text)
        self.assertIn("2 │", text)
        self.assertIn("E0308", text)

    def test_execution_counts(self):
        first = self.ok("1").reply["execution_count"]
        self.assertEqual(self.fails("nonsense!").reply["execution_count"], first + 1)
        self.assertEqual(self.ok("2", store_history=False).reply["execution_count"], first + 1)
        self.assertEqual(self.ok("3").reply["execution_count"], first + 2)

    def test_input(self):
        result = self.run_cell('let name = input("your name"); println!("hello {name}");', allow_stdin=True, answer="Zoë")
        self.assertEqual(result.text(), "hello Zoë\n")
        self.assertEqual(self.ok('input("no one").len()', allow_stdin=False).data()[0]["text/plain"], "0")

    def test_commands(self):
        self.assertIn("of compiling", self.ok("%%time\nlet timed = 1;").text())
        self.assertIn("each", self.ok("%timeit 1 + 1").text())
        self.assertIn("timed: i32", self.ok("%vars").data()[0]["text/plain"])
        self.assertEqual(self.ok("%%sh\necho one\necho two").text(), "one\ntwo\n")
        self.assertEqual(self.fails("%sh exit 3").reply["ename"], "Error")
        self.assertIn("%%time", self.ok("%help").data()[0]["text/plain"])
        self.assertIn("no such command", self.fails("%matplotlib inline").error)

    def test_a_million_lines(self):
        result = self.ok('for i in 0..1_000_000 { println!("line {i}"); } let after = 1;')
        self.assertLess(sum(len(content["text"]) for _, kind, content in result.messages if kind == "stream"), 2_000_000)
        self.assertIn("are not shown", result.text())
        self.assertTrue(result.text().endswith("line 999999\n"))

    def test_completion_and_inspection(self):
        self.ok("let tensor_of_mine = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?; struct Point { width_of_mine: f32 } let point = Point { width_of_mine: 1.0 };")
        for code, expected in (("tensor_of_m", "tensor_of_mine"), ("tensor_of_mine.flatten_a", "flatten_all"), ("point.wid", "width_of_mine"), ("lafter::plot::confu", "confusion"), ("Clip::de", "demo")):
            began = time.monotonic()
            reply = self.session.ask(self.session.client.complete(code, len(code)))
            self.assertTrue(any(match.startswith(expected) for match in reply["matches"]), (code, reply["matches"]))
            self.assertLess(time.monotonic() - began, 5)
        reply = self.session.ask(self.session.client.inspect("Clip::demo()", 8))
        self.assertTrue(reply["found"])
        self.assertIn("demo", reply["data"]["text/plain"])

    def test_other_crates(self):
        # a crate that lafter itself depends on: pinned by the lock file, there without a network
        self.ok(":dep serde_json = \"1\"\nserde_json::json!({\"a\": 1}).to_string()", patience=300)
        self.ok("let after_dep = Tensor::zeros(3, DType::F32, &Device::Cpu)?;")

    def test_values_of_earlier_cells_train(self):
        self.ok("let mut rng = Rng::new(1); let x = Tensor::rand(0f32, 1f32, (16, 4), &Device::Cpu)?;")
        self.ok("let w = candle_core::Var::zeros((4, 1), DType::F32, &Device::Cpu)?;")
        self.ok("let target = x.sum_keepdim(1)?;")
        self.ok("""
for _ in 0..200 {
    let loss = (x.matmul(w.as_tensor())? - &target)?.sqr()?.mean_all()?;
    let grads = loss.backward()?;
    w.set(&(w.as_tensor() - (grads.get(&w).unwrap() * 0.1)?)?)?;
}""")
        loss = self.ok("((x.matmul(w.as_tensor())? - &target)?.sqr()?.mean_all()?.to_scalar::<f32>()? < 0.1)")
        self.assertEqual(loss.data()[0]["text/plain"], "true")


class TwoNotebooks(unittest.TestCase):
    def test_each_has_its_own_variables(self):
        with Session() as one, Session() as two:
            self.assertEqual(one.run("let a = 1;").status, "ok")
            self.assertEqual(two.run("let a = 2;").status, "ok")
            self.assertEqual(one.run("a").data()[0]["text/plain"], "1")
            self.assertEqual(two.run("a").data()[0]["text/plain"], "2")


class Again(unittest.TestCase):
    def test_the_same_notebook_in_session_after_session(self):
        cells = [
            "let (a, b, c) = (vec![1], vec![2], vec![3]); let (d, e, f) = (vec![4], vec![5], vec![6]);",
            "let moved = [a, d, f].concat();",
            "format!(\"{b:?} {c:?} {e:?} {moved:?}\")",
        ]
        for _ in range(4):  # from the second on, cells come compiled; the order of their variables is another each time
            with Session() as session:
                results = [session.run(cell) for cell in cells]
                self.assertEqual([result.status for result in results], ["ok"] * 3, [result.error for result in results])
                self.assertEqual(results[-1].data()[0]["text/plain"], '"[2] [3] [5] [1, 4, 6]"')


if __name__ == "__main__":
    unittest.main()
