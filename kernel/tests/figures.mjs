// Figures of a committed lesson in JupyterLab, headless: not trusted (as in a fresh clone), trusted, and trusted in the dark theme.
// Prints a line a check and leaves a picture of each; ends with status 1 where a check fails. How to start: see lab.mjs.
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
const shot = async (name) => {
  await page.locator(".lafter-figure").first().scrollIntoViewIfNeeded();
  await page.waitForTimeout(500);
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
};
const menu = async (...names) => {
  for (const name of names) await page.getByRole("menuitem", { name, exact: true }).first().click();
};
const figure = page.locator(".lafter-figure").first();
const visible = async (what) => figure.locator(what).first().isVisible().catch(() => false);
const size = async (what) => figure.locator(what).first().evaluate((one) => one.getBoundingClientRect().width).catch(() => 0);

await page.goto(`${url}?reset`);
await page.locator(".jp-Notebook .jp-CodeCell").first().waitFor({ timeout: 60000 });
const news = page.locator(".Toastify button, .toastify button, .jp-toast-button").filter({ hasText: /^No$/ }); // JupyterLab's first question
await news.first().click({ timeout: 5000 }).catch(() => {});
await page.keyboard.press("Control+B"); // the file browser away
await figure.waitFor({ timeout: 30000 });
check((await size("img")) > 300 && !(await visible("svg")), "not trusted: the PNG is seen, and no SVG");
const letters = await figure.evaluate((one) => getComputedStyle(one).fontSize);
check(letters === "0px", `not trusted: what is left of the SVG's text has no size (${letters})`);
await shot("untrusted");

await page.keyboard.press("Control+Shift+C"); // the palette
await page.keyboard.type("Trust Notebook");
await page.keyboard.press("Enter");
await page.getByRole("button", { name: "Trust", exact: true }).click({ timeout: 10000 });
await page.waitForTimeout(2000);
check((await visible("svg")) && !(await visible("img")), "trusted: the SVG is seen, and no PNG");
const color = async () => figure.locator(".panel").first().evaluate((one) => getComputedStyle(one).fill);
const light = await color();
await shot("trusted");

await menu("Settings", "Theme", "JupyterLab Dark");
await page.waitForTimeout(2000);
const dark = await color();
check(light !== dark, `dark: the ground follows the theme (${light}, then ${dark})`);
await shot("dark");
await menu("Settings", "Theme", "JupyterLab Light");
await page.waitForTimeout(1000);
await browser.close();
