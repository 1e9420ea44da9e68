/**
 * The headroom of a cgroup, on folders that look like real ones, and the memory of a process in /proc.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { MemorySum } from '../src/admin/process-metrics.ts';
import { readerBelow, resolveLimits } from '../src/resources/cgroup.ts';
import { parseStatus, readHeadroom, readProcessMemory, readPss, withoutPageCache } from '../src/resources/usage.ts';
import { FakeRoot } from './fake-root.ts';
import { until } from './until.ts';

const MIB = 2 ** 20;

function headroomIn(root: FakeRoot) {
  const read = readerBelow(root.path);
  return readHeadroom(read, resolveLimits(read));
}

test('cgroup v2: the headroom is the limit less the use without reclaimable page cache', () => {
  const root = new FakeRoot({ memoryMax: String(512 * MIB) });
  root.memoryUsed(400 * MIB, 'inactive_file 104857600\nactive_file 0\n');
  assert.deepEqual(headroomIn(root), { bytes: 212 * MIB, limitBytes: 512 * MIB, file: '/sys/fs/cgroup/memory.max' });
});

test('cgroup v2: the tightest of all levels counts, and memory.high if it leaves less', () => {
  const root = new FakeRoot({ memoryMax: String(512 * MIB), memoryHigh: String(450 * MIB) });
  root.memoryUsed(400 * MIB);
  assert.equal(headroomIn(root)?.bytes, 50 * MIB);

  const nested = new FakeRoot({ memoryMax: String(1024 * MIB) });
  nested.write('/proc/self/cgroup', '0::/pod/app\n');
  nested.memoryUsed(1000 * MIB);
  for (const [level, limit, used] of [
    ['pod', 600, 590],
    ['pod/app', 512, 100],
  ] as const) {
    nested.write(`/sys/fs/cgroup/${level}/memory.max`, `${limit * MIB}\n`);
    nested.write(`/sys/fs/cgroup/${level}/memory.current`, `${used * MIB}\n`);
  }
  assert.deepEqual(headroomIn(nested), { bytes: 10 * MIB, limitBytes: 600 * MIB, file: '/sys/fs/cgroup/pod/memory.max' });
});

test('cgroup v1: the totals of the hierarchy count, and the limit of an invisible ancestor', () => {
  const root = new FakeRoot();
  root.write('/proc/self/cgroup', '3:memory:/\n0::/\n');
  root.write('/proc/self/mountinfo', '1 2 0:4 / /m rw - cgroup c rw,memory\n');
  root.write('/m/memory.limit_in_bytes', `${512 * MIB}\n`);
  root.write('/m/memory.usage_in_bytes', `${300 * MIB}\n`);
  const stat = (limit: number) => `inactive_file 0\nhierarchical_memory_limit ${limit * MIB}\ntotal_inactive_file ${50 * MIB}\n`;
  root.write('/m/memory.stat', stat(512));
  assert.equal(headroomIn(root)?.bytes, 262 * MIB);
  root.write('/m/memory.stat', stat(256));
  assert.deepEqual(headroomIn(root), { bytes: 6 * MIB, limitBytes: 256 * MIB, file: '/m/memory.stat' });
});

test('without a limit or a known use there is no headroom', () => {
  assert.equal(headroomIn(new FakeRoot()), undefined);
  assert.equal(headroomIn(new FakeRoot({ memoryMax: String(512 * MIB) })), undefined);
});

test('a limit below the use gives a negative headroom', () => {
  const root = new FakeRoot({ memoryMax: String(100 * MIB) });
  root.memoryUsed(130 * MIB);
  assert.equal(headroomIn(root)?.bytes, -30 * MIB);
});

test('private and shared pages of a process are read; all count as private if the kernel does not distinguish them', () => {
  const status = 'Name:\tnode\nVmRSS:\t  100 kB\nRssAnon:\t   40 kB\nRssFile:\t   50 kB\nRssShmem:\t   10 kB\n';
  assert.deepEqual(parseStatus(status), { privateBytes: 40 << 10, sharedBytes: 60 << 10 });
  assert.deepEqual(parseStatus('Name:\tnode\nVmRSS:\t  100 kB\n'), { privateBytes: 100 << 10, sharedBytes: 0 });
  assert.equal(parseStatus('Name:\tkthreadd\n'), undefined);
});

test('a process that has ended has no memory', async () => {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  assert.equal(readProcessMemory(child.pid ?? 0), undefined);
  assert.equal(await readPss(child.pid ?? 0), undefined);
});

test('the sum uses proportional sizes, follows private pages between two readings, and counts shared pages once without them', async () => {
  const memories = new Map([
    [1, { privateBytes: 40, sharedBytes: 60 }],
    [2, { privateBytes: 45, sharedBytes: 58 }],
  ]);
  const pss = new Map([
    [1, 70],
    [2, 74],
  ]);
  const processes = [1, 2, 3].map(pid => ({ pid, rssBytes: 100 }));
  const reported: number[] = [];
  const pssOf = async (pid: number) => {
    reported.push(pid);
    return pss.get(pid);
  };
  const sum = new MemorySum({ memoryOf: pid => memories.get(pid), pssOf });
  assert.equal(sum.of(processes, 0), 40 + 45 + 60 + 100, 'of the third, which /proc hides, its resident size');
  await until(
    () => sum.of(processes, 1000) === 70 + 74 + 100 || undefined,
    () => `${sum.of(processes, 1000)}`,
  );
  memories.set(1, { privateBytes: 140, sharedBytes: 60 });
  assert.equal(sum.of(processes, 2000), 170 + 74 + 100);
  assert.deepEqual(reported, [1, 2], 'no page table is walked again within ten seconds');

  const without = new MemorySum({ memoryOf: pid => memories.get(pid), pssOf: async () => undefined });
  assert.equal(without.of(processes, 0), 140 + 45 + 60 + 100);
});

test('page cache does not count as memory in use, except for mapped code', () => {
  const used = (lines: Record<string, number>) =>
    withoutPageCache(
      1000,
      Object.entries(lines)
        .map(([name, value]) => `${name} ${value}\n`)
        .join(''),
    );
  // In v1 only the lines with `total_` include children.
  const own = { inactive_file: 1, active_file: 2, mapped_file: 3 };
  assert.equal(used({ ...own, total_mapped_file: 50, total_inactive_file: 300, total_active_file: 200 }), 550);
  assert.equal(used({ anon: 600, file: 350, shmem: 100, file_mapped: 50, inactive_file: 100, active_file: 150 }), 800, 'v2');
  assert.equal(used({ file_mapped: 500, inactive_file: 100, active_file: 150 }), 900, 'more mapped than active: inactive alone');
  assert.equal(used({}), 1000, 'no memory.stat: everything counts');
  assert.equal(used({ inactive_file: 5000 }), 0, 'the two files are not read at the same moment');
});
