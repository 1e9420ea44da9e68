import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { screenshot, visit, withBrowser } from '../browser.ts';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { type Kit, startKit } from './kit.ts';
import { LocalRedis, withRedis } from './redis.ts';

const LAPTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };

const pidsShown = (page: Page) =>
  page.locator('#workers tr').evaluateAll(rows => rows.map(row => Number(row.getAttribute('data-pid'))));

/** Waits until the table shows these workers and no other. */
async function shows(page: Page, pids: number[]): Promise<void> {
  for (const pid of pids) await page.locator(`#workers tr[data-pid="${pid}"] .pill.ready`).waitFor();
  await holds(page, `document.querySelectorAll('#workers tr').length === ${pids.length}`);
  assert.deepEqual((await pidsShown(page)).sort(), pids.toSorted());
}

/** Until an expression holds in the page: its policy forbids Playwright's own waitForFunction, which evaluates a string. */
async function holds(page: Page, expression: string): Promise<void> {
  await until(
    async () => (await page.evaluate(expression)) || undefined,
    () => `${expression} does not hold`,
    30_000,
  );
}

async function twoReadyPids(kit: Kit): Promise<number[]> {
  const { workers } = await kit.statusWhere(
    status => status.workers.length === 2 && status.workers.every(({ state }) => state === 'ready'),
  );
  return workers.map(({ pid }) => pid);
}

/** Half of these paths fail: a quarter of the answers is 500, a quarter 404. */
const PATHS = ['/', '/throw', '/slow?ms=5', '/nowhere'];
const STATUSES = [200, 500, 200, 404];

/** Sends them in turn until `signal` aborts, at most 100 in a second. */
async function load(port: number, signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn = (turn + 1) % PATHS.length) {
    assert.equal((await request(port, PATHS[turn] ?? '')).status, STATUSES[turn]);
    await sleep(10);
  }
}

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds that keeps people out. */
async function accessibilityProblems(page: Page): Promise<string[]> {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }>(
    'axe.run({ resultTypes: ["violations"], preload: false })',
  );
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' ')}`);
}

const fits = (page: Page) =>
  page.evaluate<boolean>('document.documentElement.scrollWidth <= document.documentElement.clientWidth');

/** In how many rows the elements are. */
const rowsOf = async (page: Page, selector: string) =>
  new Set(await page.locator(selector).evaluateAll(all => all.map(one => one.getBoundingClientRect().top))).size;

/** The tables of which some columns are out of sight. */
const cutTables = (page: Page) =>
  page
    .locator('.scroll:has(table)')
    .evaluateAll(all =>
      all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.getAttribute('aria-labelledby') ?? ''),
    );

/** The times in the legends of all plots. */
const timesShown = (page: Page) => page.locator('#plots .u-legend tr:first-child .u-value').allInnerTexts();

test('the dashboard under a known load, in both sizes and schemes', withBrowser, async t => {
  const kit = await startKit({
    app: 'koa.mjs',
    env: { NODE_CLUSTER_WORKERS: '2', SERVICE_NAME: 'shop', ADAPTIVE_CONCURRENCY: 'true' },
  });
  const { port } = await kit.ready();
  const admin = `http://127.0.0.1:${kit.adminPort}/`;
  const loading = new AbortController();
  const loaded = load(port, loading.signal);
  const [laptop, phone] = await Promise.all([visit(admin, LAPTOP), visit(admin, PHONE)]);
  const { page } = laptop;
  const before = await twoReadyPids(kit);

  await t.test('it names the service and the pod, shows every worker, and says how the pool is sized', async () => {
    await shows(page, before);
    assert.equal(await page.title(), `shop · ${hostname()}`);
    assert.equal(await page.innerText('h1'), 'shop');
    assert.equal(await page.innerText('#pod'), hostname());
    assert.match(await page.innerText('#sizing'), /^2 workers/);
  });

  await t.test('the share of failed answers is that of the load', async () => {
    const share = `parseFloat([...document.querySelectorAll('#tiles dt')].find(dt => dt.textContent === 'errors').nextSibling.textContent)`;
    await holds(page, `Math.abs(${share} - 25) < 2`);
    await holds(page, `document.querySelector('#tiles dd.bad') !== null`);
    const answers = page.locator('.plot').first();
    assert.match(
      (await answers.getAttribute('aria-label')) ?? '',
      /^Answers per second, stacked by status class, .*5xx: [\d.,]+, lowest/,
    );
    assert.equal(await page.locator('#plots canvas').count(), 6);
  });

  await t.test('one cursor is on all plots, by pointer and by keyboard, and their legends have its values', async () => {
    await page
      .locator('.u-over')
      .first()
      .hover({ position: { x: 100, y: 40 } });
    await until(
      async () => new Set(await timesShown(page)).size === 1 || undefined,
      () => 'the legends show several times',
    );
    await page.mouse.move(0, 0);
    await page.locator('.plot').nth(2).focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    assert.match(await page.innerText('#reading'), /^\d\d:\d\d:\d\d: 1 \d+ %, 2 \d+ %$/);
    assert.equal(new Set(await timesShown(page)).size, 1);
  });

  await t.test('while it is paused nothing changes, and then it shows what it missed', async () => {
    const shown = () => page.locator('#plots').innerText();
    await page.click('#pause');
    const paused = await shown();
    assert.match(await page.innerText('#paused'), /^paused at \d\d:/);
    const uptime = async () => Number((await kit.status()).uptimeSeconds);
    const before = await uptime();
    await until(
      async () => (await uptime()) > before + 1.5 || undefined,
      () => 'the primary does not answer',
    );
    assert.equal(await shown(), paused);
    await page.click('#pause');
    assert.notEqual(await shown(), paused);
  });

  await t.test('a longer range shows the seconds that are not thinned yet', async () => {
    await page.mouse.move(0, 0);
    const [latest = ''] = await timesShown(page);
    await page.locator('label', { hasText: '1 h' }).click();
    assert.deepEqual(await page.locator('.range').allInnerTexts(), ['last hour', 'last hour']);
    const [now = ''] = await timesShown(page);
    assert.ok(now >= latest, `the plot ends at ${now}, the last second was ${latest}`);
    await page.locator('label', { hasText: '10 min' }).click();
  });

  await t.test('it fits both sizes, in both schemes, and axe finds nothing serious', async () => {
    for (const [size, { page: each }] of Object.entries({ 1440: laptop, phone }))
      for (const colorScheme of ['light', 'dark'] as const) {
        await each.emulateMedia({ colorScheme });
        await holds(each, `document.querySelectorAll('#plots canvas').length === 6`);
        assert.equal(await fits(each), true);
        assert.equal(await rowsOf(each, 'figure'), size === 'phone' ? 6 : 2, 'rows of plots');
        assert.equal(await rowsOf(each, '#tiles > div'), size === 'phone' ? 4 : 1, 'rows of tiles');
        assert.deepEqual(await cutTables(each), [], 'tables with columns out of sight');
        if ((size === 'phone') === (colorScheme === 'dark')) await screenshot(each, `dashboard-${size}-${colorScheme}`);
      }
    await laptop.page.emulateMedia({ colorScheme: 'light' });
    for (const { page: each } of [laptop, phone]) {
      await each.locator('#help summary').click();
      assert.deepEqual(await accessibilityProblems(each), []);
    }
  });

  loading.abort();
  await loaded;
  const [silent = 0, victim = 0] = before;

  await t.test('the row of a silent worker says so, until it reports again', async () => {
    process.kill(silent, 'SIGSTOP');
    after(() => process.kill(silent, 'SIGCONT'));
    await page.locator(`#workers tr.stale[data-pid="${silent}"] .pill.lost`, { hasText: 'silent' }).waitFor();
    process.kill(silent, 'SIGCONT');
    await page.locator(`#workers tr[data-pid="${silent}"] .pill.ready`).waitFor();
  });

  await t.test('the row of a killed worker goes, its successor comes, and the timeline has its exit', async () => {
    process.kill(victim, 'SIGKILL');
    await kit.event('worker.exit', ({ workerPid }) => workerPid === victim);
    await page.locator(`#workers tr[data-pid="${victim}"]`).waitFor({ state: 'detached' });
    await page.locator('#events li', { hasText: /is gone \(killed/ }).waitFor();
    await page.locator('#strip .lane').first().locator('i.bad').waitFor({ state: 'attached' });
    await shows(page, await twoReadyPids(kit));
  });

  assert.deepEqual([...laptop.problems, ...phone.problems], []);
});

test('every pod of a deployment shows all of them', { ...withBrowser, ...withRedis }, async () => {
  const redis = await LocalRedis.start();
  after(() => redis.stop());
  const env = { REDIS_URL: redis.url, NODE_CLUSTER_WORKERS: '1', SERVICE_NAME: 'shop' };
  const [one, two] = await Promise.all([startKit({ app: 'koa.mjs', env }), startKit({ app: 'koa.mjs', env })]);
  const [{ port }] = await Promise.all([two.ready(), one.ready()]);
  const { page, problems } = await visit(`http://127.0.0.1:${one.adminPort}/`, LAPTOP);
  const loading = new AbortController();
  const loaded = load(port, loading.signal);
  await page.locator('label', { hasText: 'All pods' }).click();
  await page.locator('#pods tr', { hasText: '(this one)' }).waitFor();
  await holds(page, `document.querySelectorAll('#pods tr').length === 2`);
  // The load of the other pod, on this one's page.
  await holds(page, `document.querySelector('#tiles').innerText.includes('of 2') && ${FLEET_ERRORS} > 10`);
  assert.equal(await page.locator('#plots canvas').count(), 5);
  assert.equal(await page.locator('#workers').isVisible(), false);
  loading.abort();
  await loaded;
  two.signal('SIGKILL');
  await page.locator('#pods .pill.lost', { hasText: 'silent' }).waitFor();
  assert.deepEqual(problems, []);
});

/** In the table, the errors per second of the pods. */
const FLEET_ERRORS = `Math.max(...[...document.querySelectorAll('#pods td[data-label="5xx/s"]')].map(cell => parseFloat(cell.textContent)))`;

test(
  'with ADMIN_TOKEN the dashboard works with the token as password, and shows how health checks fail',
  withBrowser,
  async () => {
    const env = { ADMIN_TOKEN: 'a-token', DATABASE_URL: 'redis://127.0.0.1:1' };
    const kit = await startKit({ app: 'health.mjs', env });
    await kit.ready();
    const httpCredentials = { username: 'anybody', password: 'a-token' };
    const { page, problems } = await visit(`http://127.0.0.1:${kit.adminPort}/`, { ...LAPTOP, httpCredentials });
    await shows(page, kit.workerPids);
    // The health checks of the app, one of which fails; the token shows its text, too.
    const rows = page.locator('#checks tr');
    await rows.filter({ hasText: /^database\s*failing\s*2 of 2/ }).waitFor();
    await rows.filter({ hasText: /times in a row\): Stream isn't writeable.*: the pod is not ready because of it/ }).waitFor();
    await rows.filter({ hasText: /^queue\s*ok\s*0 of 2/ }).waitFor();
    await page.setViewportSize(PHONE);
    assert.equal(await fits(page), true);
    assert.deepEqual(problems, []);
  },
);

test('an open dashboard is right again after the primary has been restarted', withBrowser, async () => {
  const kit = await startKit();
  await kit.ready();
  const { page } = await visit(`http://127.0.0.1:${kit.adminPort}/`, LAPTOP);
  await shows(page, await twoReadyPids(kit));
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  await page.locator('#state .pill.lost').waitFor();
  const next = await startKit({ env: { ADMIN_PORT: String(kit.adminPort) } });
  await next.ready();
  await shows(page, await twoReadyPids(next));
  assert.equal(await page.innerText('#state'), 'ready');
});

test('the dashboard allows exactly its own scripts, and the keyboard reaches what scrolls', withBrowser, async () => {
  const kit = await startKit();
  await kit.ready();
  const { headers, body } = await kit.probe('/');
  const policy = headers['content-security-policy'] ?? '';
  assert.match(policy, /default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; connect-src 'self'/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.doesNotMatch(body, /(?:src|href)="(?:https?:)?\/\//);
  const { page } = await visit(`http://127.0.0.1:${kit.adminPort}/`, LAPTOP);
  await shows(page, await twoReadyPids(kit));
  const reached: string[] = [];
  for (let step = 0; step < 12; step++) {
    await page.keyboard.press('Tab');
    reached.push(
      String(
        await page.evaluate(
          `(({ activeElement: at }) => at.getAttribute('aria-labelledby') || at.id || at.name || at.className || at.tagName)(document)`,
        ),
      ),
    );
  }
  const plots = Array.from({ length: 6 }, () => 'plot');
  assert.deepEqual(reached, ['skip', 'range', 'pause', ...plots, 'workers-title', 'events-title', 'SUMMARY']);
});
