/**
 * docs/guide/troubleshooting.md shows what the kit says when something is wrong.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ProbeView, readiness } from '../src/admin/readiness.ts';
import { renderStatus } from '../src/cli/render.ts';
import { readConfig } from '../src/config/config.ts';
import type { Status } from '../src/protocol/api.ts';
import { blocksOf, ROOT } from './docs/blocks.ts';

const NOTHING_KNOWN: Pick<ProbeView, 'failedStarts' | 'lastFailure' | 'redisFault' | 'checks'> = {
  failedStarts: { count: 0, last: null },
  lastFailure: undefined,
  redisFault: undefined,
  checks: {},
};
const PAGE = readFileSync(join(ROOT, 'docs', 'guide', 'troubleshooting.md'), 'utf8');

test('troubleshooting.md explains every reason that /readyz gives', () => {
  const config = readConfig({ REDIS_URL: 'redis://redis:6379' });
  const idle = { wanted: 2, hasStarted: true, isFailing: false, isBridged: false, serving: [] };
  const connecting = { redis: undefined };
  const connected = { redis: { state: 'ready' } };
  const reasonOf = (state: ProbeView['state'], pool: object, isJoined = false) =>
    readiness({ ...NOTHING_KNOWN, state, pool: { ...idle, ...pool } as ProbeView['pool'], config, isJoined }).reason ?? '';
  const reasons = [
    reasonOf('starting', { hasStarted: false }),
    reasonOf('starting', { serving: [connecting, connecting] }),
    reasonOf('starting', { serving: [connected, connected] }),
    reasonOf('ready', {}),
    reasonOf('draining', {}),
  ];
  assert.equal(new Set(reasons).size, reasons.length, reasons.join());
  const rows = [...PAGE.matchAll(/^\| `([^`]+)` \|/gm)].map(([, reason = '']) => reason);
  for (const reason of reasons)
    assert.ok(
      rows.some(row => row === reason || (row.endsWith('…') && reason.startsWith(row.slice(0, -1)))),
      `${reason}: must be a row`,
    );
  assert.match(reasonOf('ready', { serving: [connected], isFailing: true }), /^1 of 2 workers serve; /);
  assert.ok(PAGE.includes('`1 of 2 workers serve; the last start failed: …`'));
});

test('troubleshooting.md shows what bosun status prints of a pod whose app cannot start', () => {
  const failure = "/srv/server.js can't be loaded: ENOENT: no such file or directory, open './config.json'";
  const why = 'Error ENOENT at server.js:4, message #5f0c2a91';
  const status = {
    version: '0.1.0',
    pid: 6,
    state: 'starting',
    reason: `starting: 0 of 2 workers serve; the last start failed: crash, ${why}`,
    generation: 1,
    uptimeSeconds: 5,
    policy: 'least-connections',
    sizing: { reason: '2 workers: 2 CPUs, rounded half up (/sys/fs/cgroup/cpu.max)' },
    errors: {
      '4xx': { count: 0, perSecond: 0 },
      '5xx': { count: 0, perSecond: 0 },
      share: 0,
      abandoned: { count: 0, perSecond: 0 },
    },
    workers: [],
    restarts: { total: 6, byReason: { crash: 6 } },
    drains: { count: 0, finishedRequests: 0, cutRequests: 0, handedOverConnections: 0, longestRequestMs: 0 },
    moved: 0,
    failedStarts: { count: 6, last: { at: Date.now() - 1000, worker: 1, reason: 'crash', error: undefined, why, failure } },
  } as unknown as Status;
  const [shown] = blocksOf(PAGE).filter(({ language }) => language === 'text');
  assert.equal(shown?.text.trimEnd(), renderStatus(status));
});
