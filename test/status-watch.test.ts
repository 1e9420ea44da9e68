import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bars, ratesBetween, renderStatus, type Status } from '../src/cli/status.ts';

const worker = (pid: number, requests: number, uptimeSeconds: number): Status['workers'][number] => ({
  id: 1,
  pid,
  state: 'ready',
  generation: 1,
  uptimeSeconds,
  connections: 0,
  inFlight: 0,
  requests,
  responseTimeMs: { p50: 1, p99: 2 },
  eventLoopUtilization: 0.1,
  eventLoopDelayMs: 0,
  memory: { rss: 2 ** 26 },
});

const status = (...workers: Status['workers']): Status => ({
  version: '0.1.0',
  pid: 1,
  state: 'ready',
  generation: 1,
  uptimeSeconds: 10,
  policy: 'rr',
  sizing: { reason: '1 worker', memory: { heapPerWorkerMb: null } },
  workers,
  restarts: { total: 0, byReason: {} },
  drains: { count: 0, finishedRequests: 0, cutRequests: 0, handedOverConnections: 0, longestRequestMs: 0 },
});

test('a watched status has rates: between two looks, and from the start of a new process', () => {
  const rates = ratesBetween(status(worker(7, 100, 10)), status(worker(7, 150, 12), worker(8, 30, 3)));
  assert.deepEqual(
    [...rates],
    [
      [7, 25],
      [8, 10],
    ],
  );
  assert.match(renderStatus(status(worker(7, 150, 12)), rates, [5, 25]), /req\/s.*25\.0.*requests\/s ▂█ 25\.0/s);
  assert.doesNotMatch(renderStatus(status(worker(7, 150, 12))), /req\/s|requests\/s/);
});

test('bars show shares of the highest, and nothing where there is nothing', () => {
  assert.equal(bars([0, 50, 100]), '▁▅█');
  assert.equal(bars([0, 0]), '▁▁');
});
