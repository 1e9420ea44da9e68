/**
 * Makes every picture of the documentation: those drawn from facts, and screenshots of the real thing in Chromium: the dashboard during a rolling
 * restart under load, and the report of a load test.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { visit, withBrowser } from '../browser.ts';
import { ROOT } from '../process/kit.ts';
import { freshLoad, keepAliveLoad } from '../process/loads.ts';
import { startOperated } from '../process/operator.ts';
import { drawn } from './pictures.ts';
import type { Scheme } from './svg.ts';

const SCHEMES: readonly Scheme[] = ['light', 'dark'];
const FOLDER = join(ROOT, 'docs', 'pictures');
/** The plots of the dashboard are empty before. */
const LOAD_SECONDS = 40;
const WIDTH = 1200;
/** Workers start under load here, on a busy machine too. */
const withPatience = { ...withBrowser, timeout: 300_000 };

mkdirSync(FOLDER, { recursive: true });
const fileOf = (name: string) => join(FOLDER, name);

test('the drawn pictures', () => {
  for (const [name, picture] of drawn()) writeFileSync(fileOf(name), picture);
});

test('the dashboard during a rolling restart under load', withPatience, async () => {
  const { kit, port, bosun } = await startOperated({ env: { NODE_CLUSTER_WORKERS: '2', SERVICE_NAME: 'shop' } });
  const long = { mostRequests: 1_000_000, longestMs: 120_000 };
  const load = [
    keepAliveLoad(port, { path: '/api/counter', clients: 8, pauseMs: 40, ...long }),
    freshLoad(port, { path: '/slow?ms=40', ...long }),
  ];
  const shots = await Promise.all(
    SCHEMES.map(async colorScheme => {
      const { page } = await visit(`http://127.0.0.1:${kit.adminPort}/`, { width: WIDTH, height: 900, colorScheme });
      return { page, file: fileOf(`dashboard-${colorScheme}.png`) };
    }),
  );
  await new Promise(resolve => setTimeout(resolve, LOAD_SECONDS * 1000));
  const restarted = bosun('restart');
  await kit.event('worker.ready', ({ generation }) => generation === 2);
  await Promise.all(
    shots.map(async ({ page, file }) => {
      const row = page.locator('#workers tr', { has: page.locator('td[data-label="gen"]', { hasText: '2' }) });
      await row.first().locator('.pill.ready').waitFor();
      await page.locator('#workers-section ~ section, footer').evaluateAll(all => {
        for (const one of all) one.style.display = 'none';
      });
      await page.screenshot({ path: file, fullPage: true });
    }),
  );
  await restarted;
  await Promise.all(load.map(one => one.stop()));
});

test('the report of a load test', withPatience, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-pictures-'));
  after(() => rmSync(folder, { recursive: true }));
  const env = { ...process.env, STACK: 'local', SCENARIO: 'rolling-restart', DURATION: '12', CONNECTIONS: '16', OUT: folder };
  const ports = { PORT: '23001', ADMIN_PORT: '23002', NODE_CLUSTER_WORKERS: '2' };
  await promisify(execFile)(process.execPath, [join(ROOT, 'src', 'loadtest', 'main.ts')], {
    cwd: ROOT,
    env: { ...env, ...ports },
  });
  for (const colorScheme of SCHEMES) {
    const { page } = await visit(pathToFileURL(join(folder, 'report.html')).href, { width: WIDTH, height: 900, colorScheme });
    await page.screenshot({ path: fileOf(`loadtest-${colorScheme}.png`) });
  }
});
