// What the container has consumed, and the poll that notices changed limits.

import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { type ReadText, resolveLimits } from '../src/resources/cgroup.ts';
import { Poll } from '../src/resources/follow.ts';
import { readUsage } from '../src/resources/usage.ts';

type Files = Record<string, string | { error: string }>;

const readerOf =
  (files: Files): ReadText =>
  path =>
    files[path];

function usageOf(files: Files) {
  const read = readerOf(files);
  return readUsage(read, resolveLimits(read).usage);
}

const V2: Files = {
  '/proc/self/cgroup': '0::/a\n',
  '/proc/self/mountinfo': '1 2 0:3 / /c rw - cgroup2 c rw\n',
  '/c/a/cpu.max': 'max 100000\n',
  '/c/a/cpu.stat': 'usage_usec 9\nnr_periods 20\nnr_throttled 3\nthrottled_usec 2500000\nnr_bursts 0\n',
  '/c/a/cpu.stat.local': 'throttled_usec 3250000\n',
  '/c/a/cpu.pressure': 'some avg10=12.50 avg60=0.39 avg300=1.93 total=26597831\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=7\n',
  '/c/a/memory.max': 'max\n',
  '/c/a/memory.events': 'low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n',
  '/c/a/memory.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=4000000\n',
};

const noFiles = {
  cpuStat: null,
  cpuStatLocal: null,
  memoryEvents: null,
  memoryOomControl: null,
  pressure: { cpu: null, memory: null, io: null },
};

test('cgroup v2: throttling, pressure and memory events are read', () => {
  assert.deepEqual(usageOf(V2), {
    throttledSeconds: 2.5,
    parentThrottledSeconds: 0.75,
    pressure: {
      cpu: { waiting: { percent: 12.5, totalSeconds: 26.597831 }, stalled: { percent: 0.1, totalSeconds: 0.000007 } },
      memory: { waiting: { percent: 0, totalSeconds: 4 } },
    },
    oomKills: 5,
    memoryHighEvents: 2,
    memoryMaxEvents: 3,
  });
});

test("cgroup v1: throttling is in nanoseconds, OOM kills come from oom_control, and the host's pressure is not reported", () => {
  const usage = usageOf({
    '/proc/self/cgroup': '2:cpu,cpuacct:/x\n1:memory:/x\n0::/x\n',
    '/proc/self/mountinfo': '1 2 0:3 /x /cpu rw - cgroup c rw,cpu,cpuacct\n1 2 0:4 /x /m rw - cgroup c rw,memory\n',
    '/cpu/cpu.cfs_quota_us': '-1\n',
    '/cpu/cpu.cfs_period_us': '100000\n',
    '/cpu/cpu.stat': 'nr_periods 0\nnr_throttled 0\nthrottled_time 0\n',
    '/cpu/cpu.stat.local': 'throttled_time 733000000\n',
    '/m/memory.limit_in_bytes': '1024\n',
    '/m/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 7\n',
    '/proc/pressure/cpu': 'some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n',
  });
  assert.deepEqual(usage, {
    throttledSeconds: 0,
    parentThrottledSeconds: 0.733,
    pressure: {},
    oomKills: 7,
    memoryHighEvents: null,
    memoryMaxEvents: null,
  });
});

test('hybrid cgroups: pressure comes from the unified tree of this process', () => {
  const { usage } = resolveLimits(
    readerOf({
      '/proc/self/cgroup': '2:cpu:/x\n0::/y\n',
      '/proc/self/mountinfo': '1 2 0:3 / /cpu rw - cgroup c rw,cpu\n1 2 0:4 / /u rw - cgroup2 c rw\n',
      '/cpu/x/cpu.cfs_quota_us': '-1\n',
      '/cpu/x/cpu.stat': '',
      '/u/y/cpu.stat': '',
      '/u/y/cpu.pressure': '',
    }),
  );
  assert.deepEqual([usage.cpuStat, usage.pressure.cpu], ['/cpu/x/cpu.stat', '/u/y/cpu.pressure']);

  const elsewhere = { ...V2, '/proc/self/cgroup': '2:cpu:/a\n', '/c/cpu.pressure': '' };
  assert.equal(resolveLimits(readerOf(elsewhere)).usage.pressure.cpu, null, 'not in that tree: not the pressure of its root');
});

test('a leaf without the controller has the counters of the nearest level with it', () => {
  const files = {
    ...V2,
    '/proc/self/cgroup': '0::/a/init\n',
    '/c/a/init/cpu.stat': 'usage_usec 3\n',
    '/c/a/init/cpu.pressure': '',
  };
  const { usage } = resolveLimits(readerOf(files));
  assert.deepEqual([usage.cpuStat, usage.memoryEvents], ['/c/a/cpu.stat', '/c/a/memory.events']);
  assert.equal(usage.pressure.cpu, '/c/a/init/cpu.pressure');
});

test('a leaf without any limit file has its own counters, if there are any', () => {
  const { usage } = resolveLimits(
    readerOf({ ...V2, '/proc/self/cgroup': '0::/\n', '/c/cpu.stat': '', '/c/cpu.pressure': { error: 'EIO' } }),
  );
  assert.deepEqual(usage, { ...noFiles, cpuStat: '/c/cpu.stat' });
});

test('unknown and malformed usage is null', () => {
  assert.deepEqual(resolveLimits(() => undefined).usage, noFiles);
  assert.deepEqual(
    readUsage(() => 'throttled_usec 5\n', noFiles),
    usageOf({}),
  );
  const nothing = usageOf({});
  const { pressure, ...others } = nothing;
  assert.deepEqual([pressure, ...new Set(Object.values(others))], [{}, null]);
  const garbage = Object.fromEntries(
    Object.keys(V2).map(path => [
      path,
      path.startsWith('/proc') ? (V2[path] ?? '') : 'oom_kill\nthrottled_usec -1\nsome avg10=x total=\n',
    ]),
  );
  assert.deepEqual(usageOf(garbage), nothing);

  const { usage } = resolveLimits(readerOf(V2));
  assert.deepEqual(
    readUsage(() => ({ error: 'EOPNOTSUPP' }), usage),
    nothing,
    'unreadable later',
  );
  assert.equal(usageOf({ ...V2, '/c/a/cpu.stat': 'usage_usec 9\n' }).parentThrottledSeconds, null, 'own part unknown');
});

test('throttling by parents is never below 0, though the two clocks differ', () => {
  assert.equal(usageOf({ ...V2, '/c/a/cpu.stat.local': 'throttled_usec 2400000\n' }).parentThrottledSeconds, 0);
});

test('a poll of the limit files notices each change once, and a file that was removed', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-poll-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const [a, b] = [join(folder, 'a'), join(folder, 'b')];
  writeFileSync(a, '50000 100000\n');
  writeFileSync(b, 'max\n');

  using poll = new Poll([a, b]);
  assert.equal(poll.changed(), false);
  writeFileSync(a, '60000 100000\n');
  writeFileSync(b, 'ma\n');
  assert.equal(poll.changed(), true);
  assert.equal(poll.changed(), false);
  writeFileSync(b, 'max\n');
  assert.equal(poll.changed(), true);
  writeFileSync(a, '70000 100000\n');
  assert.equal(poll.changed(), true, 'also one of the same length');
  assert.equal(poll.changed(), false);

  rmSync(a);
  using stale = new Poll([a, b]);
  assert.equal(stale.changed(), true);
  assert.equal(stale.changed(), true, 'until it is created again');

  using unreadable = new Poll([folder]);
  assert.equal(unreadable.changed(), true, 'reading a directory fails, as does a limit file of a removed cgroup');
});

test('a poll of the limit files holds one descriptor per file and closes all', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-poll-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'a');
  writeFileSync(file, '1\n');
  const open = () => readdirSync('/dev/fd').length;
  const before = open();
  const poll = new Poll([file, file]);
  assert.equal(open(), before + 2);
  poll.close();
  assert.equal(open(), before);
  poll.close();
  assert.equal(poll.changed(), false, 'nothing is left to differ');
});
