/**
 * Debian's Chromium as the browser tests use it: whether there is one, a page that fails its test by whatever goes wrong in it, and
 * screenshots. Playwright's own browsers are never downloaded.
 */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { ROOT } from './process/kit.ts';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const TEST_TIMEOUT_MS = 120_000;
/** A first start on a busy machine. */
const LAUNCH_TIMEOUT_MS = 60_000;
/** Without the network flags Chromium looks up hosts of its maker at every start. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Why no browser test can run here; undefined where there is a Chromium. */
const absent = lookForBrowser();

/** The options of every browser test: skipped, with the reason, where there is no Chromium; with REQUIRE_BROWSER=1 it runs, and fails. */
export const withBrowser = { skip: process.env.REQUIRE_BROWSER !== '1' && (absent ?? false), timeout: TEST_TIMEOUT_MS };

function lookForBrowser(): string | undefined {
  try {
    accessSync(CHROMIUM, constants.X_OK);
    return undefined;
  } catch (error) {
    return `no browser: ${(error as Error).message} (apt-get install chromium, or CHROMIUM=path)`;
  }
}

export interface View {
  width: number;
  height: number;
  colorScheme?: 'light' | 'dark';
  /** The credentials for the browser's prompt. */
  httpCredentials?: { username: string; password: string };
}

/** A page with what went wrong in it. */
export interface Visit {
  page: Page;
  /** Console errors and uncaught exceptions, and requests to another host than the page's, as they came. */
  problems: string[];
}

let launched: Promise<Browser> | undefined;

// Not the running test's end: the browser serves the whole file.
after(async () => (await launched)?.close());

/** The browser of this test file. */
async function browser(): Promise<Browser> {
  if (absent !== undefined) throw new Error(absent);
  launched ??= launch();
  return launched;
}

async function launch(): Promise<Browser> {
  const { chromium } = await import('playwright-core');
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS, timeout: LAUNCH_TIMEOUT_MS });
}

/** Opens `url` in a context of its own (cookies, storage); it ends with the test. */
export async function visit(url: string, { width, height, colorScheme = 'light', ...others }: View): Promise<Visit> {
  const context = await (await browser()).newContext({ viewport: { width, height }, colorScheme, ...others });
  after(() => context.close());
  const page = await context.newPage();
  const problems: string[] = [];
  page.on('console', message => {
    if (message.type() === 'error') problems.push(`console: ${message.text()}`);
  });
  page.on('pageerror', error => problems.push(`exception: ${error.message}`));
  page.on('request', request => {
    const { protocol, host } = new URL(request.url());
    if (protocol !== 'data:' && host !== new URL(url).host) problems.push(`request to another host: ${request.url()}`);
  });
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  return { page, problems };
}

/** Saves what is seen, the whole page, as test/output/<name>.png. */
export async function screenshot(page: Page, name: string): Promise<void> {
  const folder = join(ROOT, 'test', 'output');
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}
