// JupyterLab in a headless Chromium, used as a person would: open lesson 08, run all, watch the curve move, interrupt, go on,
// complete, inspect. Prints a line a check, leaves screenshots; ends with status 1 where a check fails.
//
//   pip install jupyterlab; npm install playwright-core; a Chromium (CHROMIUM=…, else /usr/bin/chromium)
//   mkdir lab && cp -r notebooks tests lab/
//   jupyter lab --no-browser --IdentityProvider.token= --ServerApp.root_dir=lab &
//   node lab.mjs http://127.0.0.1:8888/lab/tree/notebooks/08_lafter.ipynb SCREENSHOT_FOLDER
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const [url, folder] = process.argv.slice(2);
const TRAINS = "lafter.fit_images("; // in the cell that is interrupted

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"],
});
const page = await browser.newPage({ viewport: { width: 1000, height: 760 } });
const shot = async (name) => page.screenshot({ path: path.join(folder, `${name}.png`) });
process.on("uncaughtException", async (error) => {
  console.error(`FAIL ${String(error).split("\n")[0]}`);
  await shot("failed").catch(() => {});
  process.exit(1);
});
const check = (right, what) => {
  console.log(`${right ? "ok  " : "FAIL"} ${what}`);
  if (!right) process.exitCode = 1;
};
const until = async (what, seconds, condition) => {
  for (let i = 0; i < seconds * 10; i++) {
    if (await condition()) return check(true, what);
    await page.waitForTimeout(100);
  }
  check(false, `${what} (within ${seconds} s)`);
};

// a notebook draws only the cells near the view: scrolling brings the others into the page
const cells = page.locator(".jp-Notebook .jp-CodeCell");
const prompt = async (cell) => ((await cell.locator(".jp-InputPrompt").first().textContent()) ?? "").trim();
const errors = page.locator('.jp-OutputArea-output[data-mime-type*="error"], .jp-OutputArea-output[data-mime-type*="stderr"]');
const menu = async (...names) => {
  for (const name of names) await page.getByRole("menuitem", { name, exact: true }).first().click();
};

await page.goto(`${url}?reset`); // as it looks the first time
await cells.first().waitFor({ timeout: 60000 });
await page.getByText("LaFTer (Rust)").filter({ visible: true }).first().waitFor({ timeout: 60000 });
const news = page.locator(".Toastify button, .toastify button, .jp-toast-button").filter({ hasText: /^No$/ }); // JupyterLab's first question
await news.first().click({ timeout: 5000 }).catch(() => {});
await page.keyboard.press("Control+B"); // the file browser away
await menu("Run", "Run All Cells");
const started = Date.now();

const training = cells.filter({ hasText: TRAINS }).first();
await until("the cell that trains is reached", 120, async () => {
  await training.scrollIntoViewIfNeeded().catch(() => {});
  return (await training.locator("progress").count()) > 0;
});
console.log(`     ${((Date.now() - started) / 1000).toFixed(1)} s after Run All`);
const curve = training.locator(".jp-RenderedHTMLCommon svg").first();
await curve.waitFor({ timeout: 30000 });
const seen = new Set();
for (let i = 0; i < 6; i++) {
  seen.add(await curve.innerHTML());
  await page.waitForTimeout(700);
}
check(seen.size >= 3, `the curve moves: ${seen.size} different pictures of 6`);
check((await training.locator("progress").count()) === 1, "one progress bar");
check((await training.locator(".jp-RenderedHTMLCommon svg").count()) === 1, "one curve");
await training.evaluate((cell) => cell.scrollIntoView({ block: "center" }));
await page.waitForTimeout(300);
await shot("training");

const asked = Date.now();
await page.locator('[data-command="notebook:interrupt-kernel"], jp-button[title^="Interrupt"], button[title^="Interrupt"]').first().click();
await until("the interrupt is shown", 10, async () => ((await training.textContent()) ?? "").includes("are kept"));
console.log(`     ${Date.now() - asked} ms after the click`);
await shot("interrupted");

await training.locator(".cm-content").click();
await page.keyboard.press("Escape");
await menu("Run", "Run Selected Cell and All Below");
await until("the same cell goes on after the interrupt and ends", 120, async () => /^\[\d+\]:$/.test(await prompt(training)));
const last = cells.last();
await until("all cells below run", 180, async () => {
  await last.scrollIntoViewIfNeeded().catch(() => {});
  return /^\[\d+\]:$/.test(await prompt(last));
});
check((await errors.count()) === 0, "no error and nothing on standard error");
await page.waitForTimeout(1000);
await shot("figures");

// a new cell at the end
await last.locator(".cm-content").click();
await page.keyboard.press("Escape");
await page.keyboard.press("b");
await page.keyboard.press("Enter");
await page.keyboard.type("classes.len()");
await page.keyboard.press("Control+Enter");
await until("a new cell knows the variables", 30, async () => ((await cells.last().locator(".jp-OutputArea-executeResult").first().textContent({ timeout: 1000 }).catch(() => "")) ?? "").includes("12"));

const write = async (text) => {
  await cells.last().locator(".cm-content").click();
  await page.keyboard.press("Control+A");
  await page.keyboard.type(text);
};
await write("lafter.fit_");
await page.keyboard.press("Tab");
const completer = page.locator(".jp-Completer").first();
await completer.waitFor({ timeout: 15000 });
const offered = (await completer.textContent()) ?? "";
check(offered.includes("fit_text") && offered.includes("fit_images"), "Tab offers the methods");
await shot("completion");
await page.keyboard.press("Escape");

await write("TextClassifier::fit");
await page.keyboard.press("Shift+Tab");
const tooltip = page.locator(".jp-Tooltip").first();
await tooltip.waitFor({ timeout: 15000 });
check(/noise|eq\. 2|text features/i.test((await tooltip.textContent()) ?? ""), "Shift-Tab shows the documentation");
await shot("inspection");
await browser.close();
