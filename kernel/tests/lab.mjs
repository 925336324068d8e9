// JupyterLab in a headless Chromium, used as a person would: open a notebook, run all, watch the curve move, interrupt, go on,
// complete, inspect. Needs jupyterlab, chromium and playwright-core:
//   node lab.mjs http://127.0.0.1:8888/lab/tree/lesson.ipynb SCREENSHOT_FOLDER
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const [url, folder] = process.argv.slice(2);

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"] });
const page = await browser.newPage({ viewport: { width: 1200, height: 1000 } });
const shot = async (name) => page.screenshot({ path: path.join(folder, `${name}.png`) });
process.on("uncaughtException", async (error) => {
  await shot("failed");
  console.error(String(error).split("\n")[0]);
  process.exit(1);
});
const check = (right, what) => {
  console.log(`${right ? "ok  " : "FAIL"} ${what}`);
  if (!right) process.exitCode = 1;
};

const cell = (n) => page.locator(".jp-Notebook .jp-CodeCell").nth(n);
const prompt = async (n) => (await cell(n).locator(".jp-InputPrompt").first().textContent())?.trim();
const ended = async (n, seconds = 120) => {
  for (let i = 0; i < seconds * 5; i++) {
    if (/^\[\d+\]:$/.test((await prompt(n)) ?? "")) return true;
    await page.waitForTimeout(200);
  }
  return false;
};

await page.goto(url);
await page.waitForSelector(".jp-Notebook .jp-CodeCell", { timeout: 60000 });
await page.waitForTimeout(3000);
await cell(0).click();
await page.keyboard.press("Escape");
await page.getByRole("menuitem", { name: "Run", exact: true }).click();
await page.getByText("Run All Cells", { exact: true }).click();

const training = cell(Number(process.env.TRAINING ?? 2));
const curve = training.locator(".jp-OutputArea svg");
await curve.first().waitFor({ timeout: 120000 });
const before = await curve.first().innerHTML();
await page.waitForTimeout(2500);
check(before !== (await curve.first().innerHTML()), "the curve moves");
check((await training.locator("progress").count()) === 1, "one progress bar");
await training.scrollIntoViewIfNeeded();
await shot("training");

const asked = Date.now();
await page.locator('[data-command="notebook:interrupt-kernel"], jp-button[title^="Interrupt"], button[title^="Interrupt"]').first().click();
await training.locator(".jp-OutputArea-output[data-mime-type*=error], .jp-RenderedText[data-mime-type*=stderr]").first().waitFor({ timeout: 10000 });
console.log(`     interrupted after ${Date.now() - asked} ms`);
check((await training.textContent())?.includes("variables from before this cell are kept"), "the interrupt says that variables are kept");
await shot("interrupted");

const last = (await page.locator(".jp-Notebook .jp-CodeCell").count()) - 1;
await cell(last).click();
await page.keyboard.press("Escape");
await page.keyboard.press("Enter");
await cell(last).locator(".cm-content").click();
await page.keyboard.press("Control+A");
await page.keyboard.type("classes.len()");
await page.keyboard.press("Control+Enter");
check(await ended(last), "a cell runs after the interrupt");
check(/\d+/.test((await cell(last).locator(".jp-OutputArea-executeResult").first().textContent()) ?? ""), "with the variables of before");

await cell(last).locator(".cm-content").click();
await page.keyboard.press("Control+A");
await page.keyboard.type("lafter.fit_");
await page.keyboard.press("Tab");
await page.locator(".jp-Completer").first().waitFor({ timeout: 15000 });
check((await page.locator(".jp-Completer").first().textContent())?.includes("fit_text"), "completion of methods");
await shot("completion");
await page.keyboard.press("Escape");

await page.keyboard.press("Control+A");
await page.keyboard.type("Clip::demo");
await page.keyboard.press("Shift+Tab");
await page.locator(".jp-Tooltip").first().waitFor({ timeout: 15000 });
check((await page.locator(".jp-Tooltip").first().textContent())?.includes("demo"), "documentation on Shift-Tab");
await shot("inspection");
await browser.close();
