/**
 * `make loadtest`: each scenario for a second or two against a local cluster. The figures depend on how busy the machine is; the tests
 * check that they exist, add up, and that failures are found.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { failuresOf, type Result } from '../../src/loadtest/result.ts';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { APPS, ROOT, startKit } from './kit.ts';

const PATIENCE_MS = 120_000;

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
  folder: string;
  /** Throws if there is none. */
  result(): Result;
}

class Running {
  readonly folder = mkdtempSync(join(tmpdir(), 'bosun-loadtest-'));
  readonly #child;
  stderr = '';
  stdout = '';

  constructor(env: Record<string, string>) {
    after(() => rmSync(this.folder, { recursive: true }));
    this.#child = spawn(process.execPath, [join(ROOT, 'src', 'loadtest', 'main.ts')], {
      cwd: ROOT,
      timeout: PATIENCE_MS,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        PATH: process.env.PATH,
        NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun'),
        NODE_CLUSTER_WORKERS: '2',
        STACK: 'local',
        DURATION: '1',
        CONNECTIONS: '8',
        OUT: this.folder,
        ...env,
      },
    });
    this.#child.stdout.on('data', chunk => {
      this.stdout += chunk;
    });
    this.#child.stderr.on('data', chunk => {
      this.stderr += chunk;
    });
  }

  interrupt(): void {
    this.#child.kill('SIGINT');
  }

  async ended(): Promise<Ran> {
    if (this.#child.exitCode === null) await once(this.#child, 'close');
    const { stdout, stderr, folder } = this;
    const result = () => JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as Result;
    return { code: this.#child.exitCode, stdout, stderr, folder, result };
  }
}

const loadtest = (env: Record<string, string>) => new Running(env).ended();

async function freePorts(): Promise<{ PORT: string; ADMIN_PORT: string }> {
  return { PORT: String(await freePort()), ADMIN_PORT: String(await freePort()) };
}

/** The result of runs that passed, after its figures were checked for consistency. */
function assertSound({ code, stdout, stderr, folder, result }: Ran, runs = 1): Result {
  assert.equal(code, 0, `${stdout}${stderr}`);
  const found = result();
  assert.equal(found.runs.length, runs);
  for (const run of found.runs) {
    assert.ok(run.requests > 10, stdout);
    assert.ok(run.rate > 5, stdout);
    const { p50, p90, p99, p99_9, max } = run.latencyMs;
    assert.ok(0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p99_9 && p99_9 <= max, stdout);
    assert.ok(run.slices.length >= 2 && run.slices.some(({ p99Ms }) => p99Ms !== null));
    const counted = run.workers.reduce((sum, { requests }) => sum + requests, 0);
    assert.ok(counted >= run.requests / 2, `the workers count ${counted} of ${run.requests}`);
    assert.match(stdout, new RegExp(`${run.label} +${run.requests}`));
  }
  const html = readFileSync(join(folder, 'report.html'), 'utf8');
  assert.ok(html.includes('aria-label="Latency over time"') && !html.includes('NaN'));
  return found;
}

describe('make loadtest', { concurrency: 3 }, () => {
  for (const SCENARIO of ['steady', 'newconn', 'mixed', 'spike'] as const) {
    test(`scenario ${SCENARIO} loads the cluster that it starts, and stops it`, async () => {
      const ports = await freePorts();
      const ran = await loadtest({ SCENARIO, ...ports, ...(SCENARIO === 'spike' && { DURATION: '4', RATE: '50' }) }); // three steps
      const { runs } = assertSound(ran);
      assert.equal(runs.map(failuresOf).join(), '0', ran.stdout);
      if (SCENARIO === 'spike') assert.equal(runs[0]?.events.filter(({ kind }) => kind === 'load').length, 3);
      await assert.rejects(fetch(`http://127.0.0.1:${ports.ADMIN_PORT}/livez`), 'it still runs');
    });
  }

  for (const SCENARIO of ['steady', 'sessions', 'rollout'] as const) {
    test(`scenario ${SCENARIO} keeps a rate over all its requests, and fails none`, async () => {
      const ran = await loadtest({ SCENARIO, RATE: '90', DURATION: '3', ...(await freePorts()) });
      const [run] = assertSound(ran).runs;
      assert.ok(run && run.requests > 180 && run.requests <= 95 * run.seconds, ran.stdout);
      assert.equal(failuresOf(run), 0, ran.stdout);
    });
  }

  test('scenario saturate finds the known knee of a server', async () => {
    const APP_MODULE = join(APPS, 'paced.mjs');
    const knee = { APP_MODULE, RATE_HELD: '400', NODE_CLUSTER_WORKERS: '1', P99_TARGET_MS: '50' };
    // At 450 per second, half a second leaves 25 requests waiting for 62 ms: 12 % too much is found, less not always.
    const [max, min] = [450, 100];
    // Other work on the machine only lowers the result: to 150 beside three busy loops.
    const found: number[] = [];
    while (found.length < 3 && !found.some(held => held > min)) {
      const ran = await loadtest({ SCENARIO: 'saturate', DURATION: '6', ...knee, ...(await freePorts()) });
      assertSound(ran);
      const [, held, broken] = /the knee: (\d+) per second held, at (\d+) (?:p99 was|only \d+ per second)/.exec(ran.stdout) ?? [];
      assert.ok(Number(held) <= max && Number(broken) > Number(held), ran.stdout);
      found.push(Number(held));
    }
    assert.ok(Math.max(...found) > min, `${found} per second held`);
  });

  test('scenario rolling-restart replaces the workers at a rate, fails no request, and reports the drains', async () => {
    const ran = await loadtest({ SCENARIO: 'rolling-restart', RATE: '90', DURATION: '3', ...(await freePorts()) });
    const [run] = assertSound(ran).runs;
    assert.ok(run && run.requests > 180 && run.requests <= 95 * run.seconds, ran.stdout);
    assert.equal(failuresOf(run), 0, ran.stdout);
    assert.ok((run.restarts.restart ?? 0) >= 2 && run.drains.count >= 2 && run.drains.cutRequests === 0, ran.stdout);
    assert.ok(run.events.some(({ kind }) => kind === 'draining') || run.events.some(({ kind }) => kind === 'exited'));
    assert.match(ran.stdout, /drains: \d+, \d+ requests finished in them, 0 cut/);
  });

  test('scenario rolling-restart exits with 1 if an app drops requests while it drains', async () => {
    const APP_MODULE = join(APPS, 'drops-when-draining.mjs');
    const ran = await loadtest({ SCENARIO: 'rolling-restart', APP_MODULE, ...(await freePorts()) });
    assert.equal(ran.code, 1, ran.stdout);
    assert.match(ran.stdout, /FAILED: rolling-restart: \d+ failed, none may: .*ECONNRESET/);
    assert.ok(ran.result().problems.length > 0);
  });

  test('scenario sessions exits with 1 if an app confuses its users', async () => {
    const APP_MODULE = join(APPS, 'mixes-up-sessions.mjs');
    const ran = await loadtest({ SCENARIO: 'sessions', APP_MODULE, ...(await freePorts()) });
    assert.equal(ran.code, 1, ran.stdout);
    assert.match(ran.stdout, /session mixed up/);
  });

  test('scenario crash kills workers, and reports them', async () => {
    const ran = await loadtest({ SCENARIO: 'crash', DURATION: '2', ...(await freePorts()) });
    const [run] = assertSound(ran).runs;
    assert.ok((run?.restarts.killed ?? 0) >= 1, ran.stdout);
    assert.ok(run?.events.some(({ kind }) => kind === 'killed'));
  });

  test('scenario policies loads every policy', async () => {
    const { POLICIES } = await import('../../src/config/variables.ts');
    const ran = await loadtest({ SCENARIO: 'policies', RATE: '100' });
    const { runs } = assertSound(ran, POLICIES.length);
    assert.deepEqual(
      runs.map(({ label }) => label),
      [...POLICIES],
    );
  });

  test('Ctrl-C ends the load, reports it, and stops the cluster', async () => {
    const ports = await freePorts();
    const running = new Running({ SCENARIO: 'steady', DURATION: '600', ...ports });
    await until(
      // Twice: on a busy machine no second may be complete at the first one.
      () => (running.stderr.match(/steady .* per second/g) ?? []).length >= 2 || undefined,
      () => running.stderr,
      PATIENCE_MS,
    );
    running.interrupt();
    const ran = await running.ended();
    assert.equal(assertSound(ran).interrupted, true);
    assert.match(ran.stdout, /ended early by Ctrl-C/);
    await assert.rejects(fetch(`http://127.0.0.1:${ports.ADMIN_PORT}/livez`), 'it still runs');
  });

  test('make loadtest loads a running stack, and leaves it running', async () => {
    const ports = await freePorts();
    const kit = await startKit({ env: ports });
    await kit.event('pool.ready');
    const ran = await loadtest({ SCENARIO: 'steady', ...ports });
    assert.match(assertSound(ran).target, /local cluster that was running/);
    assert.equal((await fetch(`http://127.0.0.1:${ports.ADMIN_PORT}/readyz`)).status, 200);
  });

  test('make loadtest reports all invalid settings together, before it starts anything', async () => {
    const ran = await loadtest({ SCENARIO: 'flood', DURATION: '0', RATE: '-1', CONNECTIONS: 'many', URL: 'ftp://x', PORT: '0' });
    assert.equal(ran.code, 78);
    for (const name of ['SCENARIO', 'DURATION', 'RATE', 'CONNECTIONS', 'URL', 'PORT'])
      assert.match(ran.stderr, new RegExp(`${name} must be`), ran.stderr);
    const compare = await loadtest({ COMPARE: join(ROOT, 'package.json') });
    assert.equal(compare.code, 78);
    assert.match(compare.stderr, /COMPARE must be an earlier result\.json, got .*package\.json/);
  });

  test('scenario rolling-restart needs a control socket, and exits with 78 without one', async () => {
    const ran = await loadtest({ SCENARIO: 'rolling-restart', URL: `http://127.0.0.1:${await freePort()}` });
    assert.equal(ran.code, 78, ran.stderr);
    assert.match(ran.stderr, /needs one whose control socket/);
  });
});
