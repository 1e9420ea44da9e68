/**
 * The renderers of `make loadtest` on fixed samples: against golden files, and in a real browser.
 * UPDATE_GOLDEN=1 rewrites the golden files.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { renderHtml, renderText } from '../src/loadtest/report.ts';
import type { Result, Run } from '../src/loadtest/result.ts';
import { screenshot, visit, withBrowser } from './browser.ts';

const GOLDEN = join(import.meta.dirname, 'fixtures', 'loadtest');
const PLOTS = ['Latency over time', 'Throughput over time', 'Latency by percentile', 'CPU over time', 'Requests per worker'];

/** Ten seconds of a rolling restart, as smooth as nothing real; `factor` slows it down. */
function sampleRun(label: string, factor: number): Run {
  const slices = Array.from({ length: 40 }, (_, index) => {
    const dip = index >= 16 && index < 20 ? 0.5 : 1;
    return {
      atSeconds: index / 4,
      rate: Math.round((8_000 + 400 * (index % 5)) * dip) / factor,
      failures: index === 17 ? 3 : 0,
      p50Ms: index === 30 ? null : 2 * factor,
      p99Ms: index === 30 ? null : (12 + (index % 7)) * factor * (dip === 1 ? 1 : 3),
    };
  });
  return {
    label,
    seconds: 10,
    requests: 82_000 / factor,
    rate: 8_200 / factor,
    latencyMs: { mean: 2.6 * factor, p50: 2 * factor, p90: 6 * factor, p99: 16 * factor, p99_9: 42 * factor, max: 55 * factor },
    curve: [
      [0, 0.2 * factor],
      [50, 2 * factor],
      [90, 6 * factor],
      [99, 16 * factor],
      [99.9, 42 * factor],
      [99.999, 55 * factor],
    ],
    failures: { ECONNRESET: 2, 'status 503 <b>': 1 },
    slices,
    events: [
      { atSeconds: 4, kind: 'restart', text: 'rolling restart 1' },
      { atSeconds: 4.4, kind: 'ready', text: 'worker 3 ready' },
      { atSeconds: 4.6, kind: 'draining', text: 'worker 1 draining' },
      { atSeconds: 4.9, kind: 'exited', text: 'worker 1 exited' },
    ],
    workers: [
      { id: 1, pid: 101, generation: 1, requests: 20_000 },
      { id: 2, pid: 102, generation: 1, requests: 41_000 },
      { id: 3, pid: 103, generation: 2, requests: 21_000 },
    ],
    restarts: { restart: 1 },
    drains: { count: 1, finishedRequests: 12, cutRequests: 0 },
    usage: slices.map(({ atSeconds }, index) => ({ atSeconds, cores: 1.2 + (index % 4) / 10, loop: 0.6 })),
    throttledSeconds: 0.25,
    generatorUtilization: 0.97,
    notes: ['rolling restart 1 took 900 ms'],
  };
}

function sample(runs: Run[]): Result {
  return {
    format: 1,
    scenario: 'rolling-restart',
    command: "SCENARIO=rolling-restart URL='http://127.0.0.1/<x>' make loadtest",
    startedAt: '2026-11-25T08:00:00.000Z',
    target: 'http://127.0.0.1:3000 (local cluster that was running)',
    environment: { 'koa-bosun': '0.1.0', 'Node.js': 'v26.10.0', machine: '2 × some CPU', policy: 'rr' },
    runs,
    problems: ['rolling-restart: 3 failed, none may: {"ECONNRESET":2}'],
    interrupted: false,
  };
}

const ONE = sample([sampleRun('rolling-restart', 1)]);
const OLDER = sample([sampleRun('rolling-restart', 1.5)]);
const MANY = sample(['rr', 'none', 'third', 'fourth', 'fifth'].map((label, index) => sampleRun(label, 1 + index / 4)));

const GOLDENS = { 'one.html': renderHtml(ONE), 'compared.html': renderHtml(ONE, OLDER), 'one.txt': `${renderText(ONE)}\n` };

for (const [name, rendered] of Object.entries(GOLDENS)) {
  test(`a sample result renders as the golden file ${name}`, () => {
    const file = join(GOLDEN, name);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, rendered);
    assert.equal(rendered, readFileSync(file, 'utf8'), 'review the change, then run with UPDATE_GOLDEN=1');
  });
}

test('the report loads nothing, runs no script and escapes text', () => {
  const html = renderHtml(ONE, OLDER);
  assert.doesNotMatch(html, /<script|<link[^>]+href="(?!data:)|src=|url\(|NaN|undefined|Infinity/);
  assert.match(html, /status 503 &#60;b&#62;/);
  assert.doesNotMatch(html, /<x>/);
});

test('a load test without a response renders', () => {
  const nothing = { requests: 0, rate: 0, curve: [], slices: [], usage: [], workers: [], events: [], restarts: {} };
  const empty: Run = { ...sampleRun('steady', 1), ...nothing, throttledSeconds: null };
  const html = renderHtml(sample([empty]), sample([empty]));
  assert.match(html, /nothing was measured/);
  assert.doesNotMatch(html, /NaN|undefined|Infinity/);
  assert.match(renderText(sample([empty])), /FAILED/);
});

const PAGES = [
  { name: 'one', html: renderHtml(ONE), colorScheme: 'light', width: 1280, lines: 6 },
  { name: 'compared', html: renderHtml(ONE, OLDER), colorScheme: 'dark', width: 1280, lines: 10 },
  { name: 'many', html: renderHtml(MANY), colorScheme: 'light', width: 420, lines: 20 },
] as const;

/** Evaluated in the page. */
const STROKES = `[...document.querySelectorAll('svg.plot path.line')].map(line => getComputedStyle(line).stroke)`;
const SIDEWAYS = 'document.documentElement.scrollWidth - document.documentElement.clientWidth';

test('every plot of the report is drawn in a browser, light and dark, wide and narrow', withBrowser, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-report-'));
  after(() => rmSync(folder, { recursive: true }));
  for (const { name, html, colorScheme, width, lines } of PAGES) {
    const file = join(folder, `${name}.html`);
    writeFileSync(file, html);
    const { page, problems } = await visit(pathToFileURL(file).href, { width, height: 900, colorScheme });
    for (const title of PLOTS) {
      const box = await page.locator(`svg.plot[aria-label^="${title}"]`).first().boundingBox();
      assert.ok(box && box.width > 250 && box.height > 10, `${name}, ${title}: ${JSON.stringify(box)}`);
    }
    const drawn = await page.locator('svg.plot path.line').all();
    assert.equal(drawn.length, lines, name);
    for (const line of drawn) {
      const box = await line.boundingBox();
      assert.ok(box && box.width > 100, `${name}: the line ${await line.textContent()} is ${JSON.stringify(box)}`);
    }
    const strokes = await page.evaluate<string[]>(STROKES);
    assert.ok(strokes.length === lines && !strokes.includes('none'), `${name}: ${strokes}`);
    assert.equal(await page.evaluate<number>(SIDEWAYS), 0, `${name} scrolls sideways`);
    assert.deepEqual(problems, []);
    await screenshot(page, `loadtest-${name}`);
  }
});
