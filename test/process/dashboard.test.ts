import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Page } from 'playwright-core';
import { screenshot, visit, withBrowser } from '../browser.ts';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { type Kit, startKit } from './kit.ts';

const LAPTOP = { width: 1280, height: 800 };
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

test('the dashboard shows every worker, a killed one goes and its successor comes', withBrowser, async () => {
  const kit = await startKit();
  await kit.ready();
  const { page, problems } = await visit(`http://127.0.0.1:${kit.adminPort}/`, LAPTOP);
  const before = await twoReadyPids(kit);
  await shows(page, before);
  const [victim = 0] = before;
  process.kill(victim, 'SIGKILL');
  await kit.event('worker.exit', ({ workerPid }) => workerPid === victim);
  await page.locator(`#workers tr[data-pid="${victim}"]`).waitFor({ state: 'detached' });
  await shows(page, await twoReadyPids(kit));
  await page.locator('#events li', { hasText: /is gone \(killed/ }).waitFor();
  assert.match(await page.innerText('#sizing'), /^2 workers/);
  assert.deepEqual(problems, []);
});

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
    const rows = page.locator('#check-rows tr');
    await rows.filter({ hasText: /^database\s*failing\s*2 of 2/ }).waitFor();
    await rows.filter({ hasText: /times in a row\): Stream isn't writeable.*: the pod is not ready because of it/ }).waitFor();
    await rows.filter({ hasText: /^queue\s*ok\s*0 of 2/ }).waitFor();
    await page.setViewportSize(PHONE);
    assert.equal(await page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), true);
    assert.deepEqual(problems, []);
  },
);

test('the numbers move under load, in both sizes and schemes, and no request goes to another host', withBrowser, async () => {
  const kit = await startKit();
  const { port } = await kit.ready();
  const admin = `http://127.0.0.1:${kit.adminPort}/`;
  const laptop = await visit(admin, LAPTOP);
  const phone = await visit(admin, { ...PHONE, colorScheme: 'dark' });
  const load = new AbortController();
  const loading = (async () => {
    while (!load.signal.aborted) assert.equal((await request(port, '/api/info')).status < 500, true);
  })();
  for (const { page } of [laptop, phone]) {
    await holds(page, `parseFloat(document.querySelector('#tiles dd')?.textContent ?? '0') > 10`);
    assert.equal(await page.locator('#plots canvas').count(), 5);
    // Nothing is wider than the screen.
    assert.equal(await page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'), true);
  }
  await screenshot(laptop.page, 'dashboard-1280-light');
  await screenshot(phone.page, 'dashboard-phone-dark');
  load.abort();
  await loading;
  assert.deepEqual([...laptop.problems, ...phone.problems], []);
});

test('an open dashboard is right again after the primary has been restarted', withBrowser, async () => {
  const kit = await startKit();
  await kit.ready();
  const { page } = await visit(`http://127.0.0.1:${kit.adminPort}/`, LAPTOP);
  await shows(page, await twoReadyPids(kit));
  assert.deepEqual(await kit.stop(), { code: 0, signal: null });
  await page.locator('#state.lost').waitFor();
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
  const reached = new Set<string>();
  for (let step = 0; step < 4; step++) {
    await page.keyboard.press('Tab');
    reached.add(
      String(await page.evaluate(`document.activeElement.getAttribute('aria-labelledby') ?? document.activeElement.className`)),
    );
  }
  assert.deepEqual([...reached].slice(0, 3), ['skip', 'workers-title', 'life-title']);
});
