import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Limits, readerBelow, resolveLimits } from '../src/resources/cgroup.ts';
import { LimitFollower } from '../src/resources/follow.ts';
import { FakeRoot } from './fake-root.ts';

const SETTLE_MS = 60;
const SETTLE_FEWER_CPUS_MS = 240;

describe('following the limits', () => {
  let follower: LimitFollower | undefined;
  afterEach(() => follower?.close());

  /** Follows a root; collects the reported limits; `next` resolves with the next ones. */
  function follow(root: FakeRoot, pollMs = 20, read = readerBelow(root.path)) {
    const resolve = () => resolveLimits(read);
    const reported: Limits[] = [];
    let next = Promise.withResolvers<Limits>();
    follower = new LimitFollower(resolve(), {
      root: root.path,
      resolve,
      times: { settleMs: SETTLE_MS, settleFewerCpusMs: SETTLE_FEWER_CPUS_MS, pollMs },
      changed: limits => {
        reported.push(limits);
        next.resolve(limits);
        next = Promise.withResolvers();
      },
    });
    return { reported, next: () => next.promise };
  }

  test('more CPUs are reported once they have lasted for the settling time', async () => {
    const root = new FakeRoot({ cpuMax: '50000 100000' });
    const { next, reported } = follow(root);
    const changedAt = performance.now();
    root.cpuMax('200000 100000');
    assert.equal((await next()).quota?.value, 2);
    assert.ok(performance.now() - changedAt >= SETTLE_MS - 2);
    assert.equal(reported.length, 1);
  });

  test('a moment without free file descriptors does not count as a change of the limits', async () => {
    const root = new FakeRoot({ cpuMax: '50000 100000', memoryMax: String(2 ** 30) });
    let looks = 0;
    let isFlooded = false;
    const { reported, next } = follow(root, 10, path => {
      if (isFlooded) looks++;
      return isFlooded ? { error: 'EMFILE' } : readerBelow(root.path)(path);
    });
    isFlooded = true;
    await sleep(4 * SETTLE_MS);
    assert.ok(looks > 0, 'nobody has looked');
    assert.deepEqual(reported, []);
    isFlooded = false;
    root.cpuMax('200000 100000');
    assert.equal((await next()).quota?.value, 2);
  });

  test('fewer CPUs are reported later than more', async () => {
    const root = new FakeRoot({ cpuMax: '400000 100000' });
    const { next } = follow(root);
    const changedAt = performance.now();
    root.cpuMax('100000 100000');
    assert.equal((await next()).quota?.value, 1);
    assert.ok(performance.now() - changedAt >= SETTLE_FEWER_CPUS_MS - 2);
  });

  test('a change that is reverted is not reported, and a burst is reported once, as it ended', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000' });
    const { reported, next } = follow(root);
    // Until the machine is not too busy to revert it in time.
    for (let tookMs = SETTLE_MS; tookMs >= SETTLE_MS; ) {
      reported.length = 0;
      const changedAt = performance.now();
      root.cpuMax('300000 100000');
      await sleep(SETTLE_MS / 3);
      root.cpuMax('100000 100000');
      tookMs = performance.now() - changedAt;
      await sleep(SETTLE_FEWER_CPUS_MS * 2);
    }
    assert.deepEqual(reported, []);
    for (const cores of [2, 3, 4, 5]) root.cpuMax(`${cores}00000 100000`);
    assert.equal((await next()).quota?.value, 5);
    assert.equal(reported.length, 1);
  });

  test('a changed memory limit is reported', async () => {
    const root = new FakeRoot({ memoryMax: '536870912' });
    const { next } = follow(root);
    root.memoryMax('268435456');
    assert.equal((await next()).memory?.value, 268435456);
  });

  test('inotify notices a change long before the poll', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000' });
    const { next } = follow(root, 600_000);
    await sleep(20); // the watchers are armed in the background
    root.cpuMax('200000 100000');
    assert.equal((await next()).quota?.value, 2);
  });

  test('the poll notices a change without events: a file that is replaced', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000' });
    const { next } = follow(root);
    rmSync(join(root.path, '/sys/fs/cgroup/cpu.max'));
    assert.equal((await next()).quota, null, 'a limit file that is gone is no limit');
    root.cpuMax('300000 100000');
    assert.equal((await next()).quota?.value, 3);
  });

  test('a limit file that is malformed for a moment does not count as a change', async () => {
    const root = new FakeRoot({ cpuMax: '100000 100000' });
    const { reported } = follow(root);
    root.cpuMax('\u0000\u0001 nonsense');
    await sleep(SETTLE_MS / 3);
    root.cpuMax('100000 100000');
    await sleep(SETTLE_FEWER_CPUS_MS * 1.5);
    assert.deepEqual(reported, []);
  });
});
