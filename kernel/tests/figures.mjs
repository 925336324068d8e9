// Figures in JupyterLab, headless: of a committed lesson that is not trusted (as in a fresh clone), then of the same lesson run, in the
// light and in the dark theme. Prints a line a check and leaves a picture of each; ends with status 1 where a check fails. How to start:
// see lab.mjs.
//
//   node figures.mjs http://127.0.0.1:8888/lab/tree/notebooks/01_hello.ipynb SCREENSHOT_FOLDER
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const [url, folder] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"],
});
const page = await browser.newPage({ viewport: { width: 1000, height: 1600 } });
const check = (right, what) => {
  console.log(`${right ? "ok  " : "FAIL"} ${what}`);
  if (!right) process.exitCode = 1;
};
const shot = async (name, what) => {
  await what.scrollIntoViewIfNeeded();
  await page.waitForTimeout(500);
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
};
const menu = async (...names) => {
  for (const name of names) await page.getByRole("menuitem", { name, exact: true }).first().click();
};
const command = async (name) => {
  await page.keyboard.press("Control+Shift+C"); // the palette
  await page.keyboard.type(name);
  await page.waitForTimeout(500);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(2000);
};

await page.goto(`${url}?reset`);
await page.locator(".jp-Notebook .jp-CodeCell").first().waitFor({ timeout: 60000 });
const news = page.locator(".Toastify button, .toastify button, .jp-toast-button").filter({ hasText: /^No$/ }); // JupyterLab's first question
await news.first().click({ timeout: 5000 }).catch(() => {});
await page.keyboard.press("Control+B"); // the file browser away
const picture = page.locator('.jp-OutputArea-output[data-mime-type="image/png"] img').first();
await picture.waitFor({ timeout: 30000 });
check((await picture.evaluate((one) => one.getBoundingClientRect().width)) > 300, "not trusted: the PNG is seen");
await shot("untrusted", picture);

await menu("Run", "Run All Cells");
const figure = page.locator(".lafter-figure").first();
await figure.waitFor({ timeout: 180000 });
const visible = async (what) => figure.locator(what).first().isVisible().catch(() => false);
check((await visible("svg")) && !(await visible("img")), "run: the SVG is seen, and not its PNG");
const color = async () => figure.locator(".panel").first().evaluate((one) => getComputedStyle(one).fill);
const light = await color();
await shot("trusted", figure);

await command("Use Theme: JupyterLab Dark");
const dark = await color();
check(light !== dark, `dark: the ground follows the theme (${light}, then ${dark})`);
await shot("dark", figure);
await command("Use Theme: JupyterLab Light");
await browser.close();
