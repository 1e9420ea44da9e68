/**
 * The site of the documentation (`make test-site`): built below a path, as a project page is, checked as files, then visited in Chromium.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import type { Page } from 'playwright-core';
import { PAGES, sidebar, sitePath } from '../../docs/site/pages.ts';
import { screenshot, visit, withBrowser } from '../browser.ts';
import { ROOT } from '../process/kit.ts';
import { BuiltSite } from './built.ts';
import { accessibilityProblems, contrastProblems, layoutProblems, pictureProblems } from './visited.ts';

const BASE = '/koa-bosun/';
const FOLDER = join(ROOT, 'test', 'output', 'site');
const SITE = join(ROOT, 'docs', 'site');
const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1280, height: 800 };
/** A4 at 96 dots per inch. */
const PAPER = { width: 794, height: 1123 };

let server: ChildProcess;
let url: string;
let site: BuiltSite;

before(async () => {
  rmSync(FOLDER, { recursive: true, force: true });
  const vitepress = join(SITE, 'node_modules', 'vitepress', 'bin', 'vitepress.js');
  execFileSync(process.execPath, [vitepress, 'build', SITE, '--outDir', FOLDER], { env: { ...process.env, SITE_BASE: BASE } });
  site = new BuiltSite(FOLDER, BASE);
  const env = { ...process.env, SITE_BASE: BASE, PORT: '0' };
  server = spawn(process.execPath, [join(SITE, 'preview.mjs'), FOLDER], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  assert.ok(server.stdout);
  const [line] = await once(createInterface(server.stdout), 'line');
  url = /http:\S+/.exec(line)?.[0] ?? '';
});

after(() => server.kill());

/** To be looked at, in test/output. */
const KEPT = ['index.html', 'guide/balancing.html', 'guide/sizing.html', 'reference/environment.html'];

/** These have every kind of text and every language of code: contrasts are slow to check. */
const CONTRASTED = [...KEPT, 'guide/adopt.html', 'guide/docker.html', 'guide/kubernetes.html', 'reference/kit.html'];

/** Resolves once the page has this colour scheme. */
const shows = (page: Page, scheme: 'light' | 'dark') =>
  page.locator(scheme === 'dark' ? 'html.dark' : 'html:not(.dark)').waitFor();

test('every page of the documentation is on the site, and in the sidebar once', () => {
  const shown = PAGES.map(page => sitePath(page).replace(/\.md$/, '')).sort();
  assert.deepEqual(
    shown.filter(path => !site.pages.includes(`${path}.html`)),
    [],
  );
  assert.deepEqual(
    sidebar()
      .flatMap(({ items }) => items.map(({ link }) => link.slice(1).replace(/(^|\/)$/, '$1index')))
      .sort(),
    shown,
  );
});

test('every link, anchor and picture of the site exists, and nothing is loaded from another host', () => {
  assert.deepEqual(
    site.pages.flatMap(page => site.problemsOf(page)),
    [],
  );
});

test('no page leads to itself, files lead nowhere, and a linked file can be downloaded as it is', () => {
  for (const page of site.pages.filter(page => page !== '404.html')) {
    const next = site.pagerOf(page);
    assert.ok(!next.includes(BASE + page.replace(/(^|\/)index\.html$/, '$1')), page);
    assert.equal(next.length > 0, !page.startsWith('files/'), page);
  }
  assert.equal(site.text('raw/docs/reference/openapi.yaml'), readFileSync(join(ROOT, 'docs/reference/openapi.yaml'), 'utf8'));
  assert.match(
    site.text('files/docs/reference/openapi.yaml.html'),
    /<a href="\.\.\/\.\.\/\.\.\/raw\/docs\/reference\/openapi\.yaml" download/,
  );
});

test('every page has a title and a description of its own', () => {
  for (const what of ['titleOf', 'descriptionOf'] as const) {
    const all = site.pages.filter(page => page !== '404.html').map(page => site[what](page));
    assert.deepEqual(
      all.filter((one, index) => one.length < 10 || one.length > 165 || all.indexOf(one) !== index),
      [],
    );
  }
});

describe('every page', { ...withBrowser, concurrency: true, timeout: 300_000 }, () => {
  for (const size of [PHONE, DESKTOP])
    test(`fits ${size.width} × ${size.height} in light and dark`, async () => {
      const { page, problems } = await visit(url, size);
      /** By problem: the pages that have it. */
      const found = new Map<string, string[]>();
      for (const path of site.pages.filter(path => path !== '404.html')) {
        await page.goto(url + path, { waitUntil: 'load' });
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme });
          await shows(page, colorScheme);
          const here = [...(await layoutProblems(page)), ...(await pictureProblems(page, colorScheme)), ...problems.splice(0)];
          if (KEPT.includes(path)) await screenshot(page, `site-${path.replace(/\W/g, '-')}-${size.width}-${colorScheme}`);
          if (colorScheme === 'light') here.push(...(await accessibilityProblems(page)));
          if (CONTRASTED.includes(path)) here.push(...(await contrastProblems(page)));
          for (const problem of here) found.set(problem, [...(found.get(problem) ?? []), path]);
        }
      }
      assert.deepEqual([...found], []);
    });
});

describe('in Chromium', withBrowser, () => {
  test('an address without a page shows one that says so, with a link to the first page', async () => {
    const { page, problems } = await visit(`${url}guide/nothing.html`, PHONE);
    await page.getByText('No such page').waitFor();
    assert.deepEqual(await accessibilityProblems(page), []);
    assert.equal(await page.getByRole('link', { name: 'To the first page' }).getAttribute('href'), BASE);
    assert.deepEqual(problems, ['console: Failed to load resource: the server responded with a status of 404 (Not Found)']);
  });

  test('the search finds a page by a word of it, and opens it', async () => {
    for (const size of [PHONE, DESKTOP]) {
      const { page, problems } = await visit(url, size);
      await page.getByRole('button', { name: 'Search' }).click();
      await page.getByRole('searchbox').fill('SHUTDOWN_DELAY_MS');
      await page.locator('.result[href*="reference/environment"]').first().click();
      await page.waitForURL(/reference\/environment/);
      await page.getByRole('heading', { level: 1 }).filter({ hasText: 'Environment' }).waitFor();
      assert.deepEqual(problems, []);
    }
  });

  test('a printed page has its text in the light scheme, without the navigation', async () => {
    const { page } = await visit(`${url}guide/sizing.html`, { ...PAPER, colorScheme: 'dark' });
    await shows(page, 'dark');
    await page.emulateMedia({ media: 'print' });
    await page.evaluate('dispatchEvent(new Event("beforeprint"))');
    await shows(page, 'light');
    for (const selector of ['.VPNav', '.VPSidebar', '.aside', '.VPDocFooter'])
      assert.deepEqual([selector, await page.locator(selector).first().isVisible()], [selector, false]);
    assert.deepEqual(await pictureProblems(page, 'light'), []);
    const box = await page.locator('.vp-doc').boundingBox();
    assert.ok(box !== null && box.x < 100 && box.y < 100, JSON.stringify(box));
    await page.evaluate('dispatchEvent(new Event("afterprint"))');
    await shows(page, 'dark');
  });

  test('the reader can select the colour scheme, and the pictures follow', async () => {
    const { page } = await visit(`${url}guide/shutdown.html`, DESKTOP);
    for (const scheme of ['light', 'dark'] as const) {
      await shows(page, scheme);
      assert.deepEqual(await pictureProblems(page, scheme), []);
      await page.getByRole('switch').first().click();
    }
  });
});
