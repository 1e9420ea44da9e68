// The limits resolver: the shared vectors, then a case per rule they do not cover. A key that is absent is an absent file.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { type Limits, readerBelow, resolveLimits } from '../src/resources/cgroup.ts';

type Files = Record<string, string | { error: string }>;

interface Vector {
  name: string;
  files: Files;
  expected: { cpuQuota: number | null; memoryLimit: number | null; memoryHigh?: number | null; cpusetCount: number | null };
}

const fixtures = join(import.meta.dirname, 'fixtures/cgroup');
for (const fixture of readdirSync(fixtures)) {
  const vectors: Vector[] = JSON.parse(readFileSync(join(fixtures, fixture), 'utf8'));
  for (const { name, files, expected } of vectors) {
    test(`${fixture}: ${name}`, () => assert.deepEqual(values(resolve(files)), { memoryHigh: null, ...expected }));
  }
}

const MAX = '100000 100000\n';
const v2Mount = (root: string, point: string) => `704 703 0:29 ${root} ${point} ro shared:4 - cgroup2 cgroup rw,nsdelegate\n`;
const v1Mount = (root: string, point: string, options: string) =>
  `711 710 0:41 ${root} ${point} ro - cgroup cgroup rw,${options}\n`;
const V2 = { '/proc/self/mountinfo': v2Mount('/', '/c') };
const v2 = (path: string, files: Files) => resolve({ ...V2, '/proc/self/cgroup': `0::${path}\n`, ...files });
const v1 = (paths: string, mounts: string, files: Files) =>
  resolve({ '/proc/self/cgroup': paths, '/proc/self/mountinfo': mounts, ...files });

function resolve(files: Files): Limits {
  return resolveLimits(path => (Object.hasOwn(files, path) ? files[path] : undefined));
}

function values({ quota, memory, memoryHigh, cpuset }: Limits) {
  return {
    cpuQuota: quota?.value ?? null,
    memoryLimit: memory?.value ?? null,
    memoryHigh: memoryHigh?.value ?? null,
    cpusetCount: cpuset?.value ?? null,
  };
}

test('only numbers that the kernel prints are limits', () => {
  const quotaOf = (text: string) => v2('/', { '/c/cpu.max': text }).quota?.value;
  for (const text of ['50000', '50000 100000', ' 50000\t100000 \r\n', '50000 100000\n\n']) assert.equal(quotaOf(text), 0.5, text);
  for (const text of [
    '+1 2',
    '0x10 100',
    '1e5 100000',
    '5.5 10',
    '0 100000',
    '50000 0',
    '50000 -1',
    '１ ２',
    '1 2 3',
    'max 1 2',
  ]) {
    assert.equal(quotaOf(text), undefined, text);
    assert.equal(v2('/', { '/c/cpu.max': text }).skipped.length, 1, text);
  }
  assert.equal(quotaOf('9'.repeat(400)), undefined);
  for (const text of ['max', 'max 100000\n']) assert.deepEqual(v2('/', { '/c/cpu.max': text }).levels[0]?.value, null, text);

  assert.equal(v2('/', { '/c/memory.max': '4611686018427383808\r\n' }).memory?.value, 2 ** 62 - 4096);
  for (const text of ['max', '4611686018427387904', '18446744073709551615']) {
    const { memory, levels, skipped } = v2('/', { '/c/memory.max': text });
    assert.deepEqual([memory, levels[0]?.value, skipped], [null, null, []], text);
  }
  for (const text of ['', '-1', '1024k', '0x400', '1 2', '9'.repeat(21)]) {
    const { memory, skipped } = v2('/', { '/c/memory.max': text });
    assert.deepEqual([memory, skipped[0]?.why], [null, `is malformed: ${JSON.stringify(text)}`]);
  }
});

test('of equal limits the nearest decides, and every level is listed, the leaf first', () => {
  const limits = v2('/a/b', { '/c/a/b/cpu.max': 'max 100000', '/c/a/cpu.max': MAX, '/c/cpu.max': '50000 50000' });
  assert.deepEqual(limits.quota, { value: 1, file: '/c/a/cpu.max' });
  const seen = limits.levels.map(({ file, text, value }) => [file, text, value]);
  assert.deepEqual(seen.slice(0, 2), [
    ['/c/a/b/cpu.max', 'max 100000', null],
    ['/c/a/cpu.max', '100000 100000', 1],
  ]);
  assert.deepEqual(limits.files, ['/c/a/b/cpu.max', '/c/a/cpu.max', '/c/cpu.max']);
});

test('an unreadable level is named, and the limits of the other levels apply', () => {
  const limits = v2('/a', { '/c/a/memory.high': { error: 'EIO' }, '/c/memory.high': '7' });
  assert.deepEqual(limits.memoryHigh, { value: 7, file: '/c/memory.high' });
  assert.deepEqual(limits.skipped, [{ file: '/c/a/memory.high', why: 'cannot be read (EIO)' }]);
  assert.deepEqual(limits.files, ['/c/memory.high']);
});

test('/proc/self/cgroup is read with colons, CRLF, spaces, backslashes, (deleted), no newline, and malformed lines', () => {
  const quotaAt = (cgroup: string, directory: string) =>
    resolve({ ...V2, '/proc/self/cgroup': cgroup, [`/c${directory}/cpu.max`]: MAX }).quota?.value;
  assert.equal(quotaAt('0::/a:b:/c', '/a:b:/c'), 1);
  assert.equal(quotaAt('0::/a\r\n', '/a'), 1);
  assert.equal(quotaAt('0::/a \n', '/a '), 1, 'a space belongs to the name');
  assert.equal(quotaAt('0::/a\r\u2028b\n', '/a\r\u2028b'), 1, 'only \\n ends a line');
  assert.equal(quotaAt('0::/a\\x2d\\040b\n', '/a\\x2d\\040b'), 1, 'nothing is escaped here');
  assert.equal(quotaAt('0::/a/b (deleted)\n', '/a/b'), 1);
  assert.equal(quotaAt('0::/a (deleted)\n', ''), 1, 'parents of a removed cgroup still rule');
  assert.equal(quotaAt('0::/..a/b..\n', '/..a/b..'), 1);
  assert.equal(quotaAt('\nrubbish\n0:cpu:/x\n::/x\nx:cpu:/x\n3:cpu:x\n0::/a\n4:,:/x\n', '/a'), 1);
  for (const cgroup of ['0::a\n', '0::/a/..\n']) assert.equal(quotaAt(cgroup, ''), undefined);
});

test('cgroup v1 paths may contain colons, and a named hierarchy is not a controller', () => {
  const decoys = `${v1Mount('/', '/s', 'xattr,name=cpu')}1 2 0:9 / /t rw - tmpfs tmpfs rw,cpu\n`;
  const mounts = decoys + v1Mount('/', '/cpu', 'cpu,cpuacct');
  const limits = v1('9:name=cpu:/x\n4:cpu,cpuacct:/a:b/c:cpu:/d\n', mounts, {
    '/t/a:b/c:cpu:/d/cpu.cfs_quota_us': '1',
    '/t/a:b/c:cpu:/d/cpu.cfs_period_us': '1000',
    '/s/cpu.cfs_quota_us': '1',
    '/s/cpu.cfs_period_us': '1000',
    '/cpu/a:b/c:cpu:/d/cpu.cfs_quota_us': '5000\r\n',
    '/cpu/a:b/c:cpu:/d/cpu.cfs_period_us': '20000',
  });
  const file = '/cpu/a:b/c:cpu:/d/cpu.cfs_quota_us';
  assert.deepEqual(limits.quota, { value: 0.25, file });
  assert.deepEqual(limits.files, [file, file.replace('quota', 'period')], 'the period is watched, too');
});

test('a v1 controller without a usable mount stays unknown, whatever limits cgroup2 files have', () => {
  const mounts = v2Mount('/', '/u') + v1Mount('/other', '/cpu', 'cpu') + v1Mount('/', '/memory', 'memory');
  const limits = v1('3:memory:/a\n2:cpu:/a\n0::/a\n', mounts, {
    '/u/a/cpu.max': MAX,
    '/u/a/memory.max': '1',
    '/cpu/cpu.cfs_quota_us': '1',
  });
  assert.deepEqual(values(limits), { cpuQuota: null, memoryLimit: null, memoryHigh: null, cpusetCount: null });
  assert.deepEqual(limits.skipped, [{ file: '/proc/self/mountinfo', why: 'no cgroup mount of cpu shows /a' }]);
});

test('a controller that is not listed with v1 is looked up in cgroup2', () => {
  const mounts = v1Mount('/', '/cpu', 'cpu') + v1Mount('/', '/memory', 'memory') + v2Mount('/', '/u');
  const limits = v1('2:cpu:/a\n0::/b\n', mounts, {
    '/cpu/a/cpu.cfs_quota_us': '-1',
    '/cpu/a/cpu.cfs_period_us': '100000',
    '/u/b/cpu.max': MAX,
    '/u/b/memory.max': '5',
    '/u/b/memory.high': '4',
    '/memory/b/memory.limit_in_bytes': '1',
  });
  assert.deepEqual(values(limits), { cpuQuota: null, memoryLimit: 5, memoryHigh: 4, cpusetCount: null });
});

test('cgroup v1: a quota without a period, or below -1, is ignored', () => {
  const quotaOf = (files: Files) => v1('1:cpu:/\n', v1Mount('/', '/c', 'cpu'), files);
  assert.equal(quotaOf({ '/c/cpu.cfs_quota_us': '50000' }).quota, null);
  assert.equal(quotaOf({ '/c/cpu.cfs_quota_us': '50000' }).skipped.length, 1);
  assert.equal(quotaOf({ '/c/cpu.cfs_quota_us': '-2', '/c/cpu.cfs_period_us': '100000' }).skipped.length, 1);
  assert.equal(quotaOf({ '/c/cpu.cfs_quota_us': '-1', '/c/cpu.cfs_period_us': '100000' }).skipped.length, 0);
});

test('cgroup v1: the hierarchical memory limit applies, but nothing above a parent without use_hierarchy', () => {
  const files: Files = {
    '/m/a/b/memory.limit_in_bytes': '9223372036854710272',
    '/m/a/b/memory.stat': 'total_hierarchical_memory_limit 1\nhierarchical_memory_limit 4096\r\nhierarchical_memsw_limit 2\n',
    '/m/a/memory.limit_in_bytes': '1024',
  };
  const limitOf = (more: Files) => v1('5:memory:/a/b\n', v1Mount('/', '/m', 'memory'), { ...files, ...more }).memory;
  assert.deepEqual(limitOf({ '/m/a/memory.use_hierarchy': '1\n' }), { value: 1024, file: '/m/a/memory.limit_in_bytes' });
  assert.deepEqual(limitOf({ '/m/a/memory.use_hierarchy': '0\n' }), { value: 4096, file: '/m/a/b/memory.stat' });
  assert.deepEqual(limitOf({ '/m/a/b/memory.use_hierarchy': '0\n' }), { value: 4096, file: '/m/a/b/memory.stat' });
  assert.equal(limitOf({ '/m/a/b/memory.stat': 'hierarchical_memory_limit 12kb\n' })?.value, 1024);
});

test('mountinfo is read with empty fields, a mount point called "-", escapes of several bytes, CRLF and malformed lines', () => {
  const quotaAt = (line: string, file: string) =>
    resolve({ '/proc/self/cgroup': '0::/a\\b\n', '/proc/self/mountinfo': line, [file]: MAX }).quota?.value;
  assert.equal(quotaAt('1 2 0:1 / /c rw - cgroup2  rw', '/c/a\\b/cpu.max'), 1, 'no source');
  assert.equal(quotaAt('1 2 0:1 / /- rw - cgroup2 - rw\r\n', '/-/a\\b/cpu.max'), 1);
  assert.equal(quotaAt('1 2 0:1 /a\\134b /c\\303\\251\\043 rw - cgroup2 c rw\n', '/cé#/cpu.max'), 1);
  assert.equal(quotaAt('1 2 0:1 / / rw - cgroup2 c rw\n', '/a\\b/cpu.max'), 1, 'mounted on /');
  assert.equal(quotaAt('1 2 0:1 / /c\u00a0d rw - cgroup2 c rw\n', '/c\u00a0d/a\\b/cpu.max'), 1, 'only spaces separate');
  assert.equal(quotaAt('1 2 - / /c rw - cgroup2 c rw\n', '/c/a\\b/cpu.max'), 1, 'the separator comes after six fields');
  for (const line of [
    '1 2 0:1 / /c rw cgroup2 c rw',
    '1 2 0:1 / /c rw - cgroup2 c',
    '- cgroup2 c rw',
    'cgroup2 c rw / /c rw',
    '1 2 0:1 a /c rw - cgroup2 c rw',
    '1 2 0:1  /c rw - cgroup2 c rw',
    '1 2 0:1 / c rw - cgroup2 c rw',
    '1 2 0:1 /.. /c rw - cgroup2 c rw',
    '1 2 0:1 / /c rw - cgroup2fs c rw',
  ]) {
    for (const file of ['/c/a\\b/cpu.max', '/c/cpu.max', 'c/cpu.max']) assert.equal(quotaAt(line, file), undefined, line);
  }
});

test('of several usable mounts the tightest limit applies', () => {
  const mounts = v2Mount('/', '/c') + v2Mount('/a', '/d/e') + v2Mount('/b', '/f');
  const files = {
    '/c/a/b/cpu.max': MAX,
    '/d/e/b/cpu.max': '30000 100000',
    '/d/e/memory.max': '9',
    '/f/cpu.max': '1 100',
    '/f/b/cpu.max': '1 100',
  };
  const limits = resolve({ '/proc/self/cgroup': '0::/a/b\n', '/proc/self/mountinfo': mounts, ...files });
  assert.deepEqual(limits.quota, { value: 0.3, file: '/d/e/b/cpu.max' });
  assert.deepEqual(limits.memory, { value: 9, file: '/d/e/memory.max' });
});

test('a mount below a mount hides the directories of the outer one', () => {
  const files = { '/c/cpu.max': MAX, '/c/a/cpu.max': '1 100', '/c/a/b/cpu.max': '1 100' };
  const quotaWith = (mount: string) =>
    resolve({ '/proc/self/cgroup': '0::/a/b\n', '/proc/self/mountinfo': v2Mount('/', '/c') + mount, ...files }).quota?.value;
  assert.equal(quotaWith('1 2 0:9 / /c/a rw - tmpfs tmpfs rw\n'), 1);
  assert.equal(quotaWith(v2Mount('/elsewhere', '/c/a')), 1);
  assert.equal(quotaWith(v2Mount('/a', '/c/a')), 0.01, 'unless it shows this cgroup itself');
});

test('the last mount on a mount point hides the others, whatever its type', () => {
  const files = { '/proc/self/cgroup': '0::/\n', '/c/cpu.max': MAX };
  const tmpfs = '1 2 0:9 / /c rw - tmpfs tmpfs rw\n';
  assert.equal(resolve({ ...files, '/proc/self/mountinfo': v2Mount('/', '/c') + tmpfs }).quota, null);
  assert.equal(resolve({ ...files, '/proc/self/mountinfo': tmpfs + v2Mount('/', '/c') }).quota?.value, 1);
});

test('without mountinfo, /sys/fs/cgroup counts only if it is cgroup2 and /proc/self/cgroup is readable', () => {
  const files: Files = { '/proc/self/cgroup': '0::/a\n', '/sys/fs/cgroup/a/cpu.max': MAX, '/sys/fs/cgroup/cpu.max': '50000' };
  const controllers = { '/sys/fs/cgroup/cgroup.controllers': '' };
  assert.equal(resolve({ ...files, ...controllers }).quota?.value, 0.5);
  assert.equal(resolve(files).quota, null);
  assert.equal(resolve({ ...files, ...controllers, '/proc/self/mountinfo': '' }).quota, null, 'an empty mountinfo is readable');
  assert.equal(resolve({ ...files, ...controllers, '/proc/self/cgroup': { error: 'EACCES' } }).quota, null);
  assert.equal(resolve({ ...files, ...controllers, '/proc/self/cgroup': '2:cpu:/a\n0::/a\n' }).quota, null, 'v1 stays v1');
});

test('files are read below the given root only; missing files are distinguished from unreadable ones', t => {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-cgroup-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'root/sub'), { recursive: true });
  writeFileSync(join(folder, 'secret'), 'secret');
  writeFileSync(join(folder, 'root/a b'), 'text');
  const read = readerBelow(join(folder, 'root'));
  assert.equal(read('/a b'), 'text');
  for (const path of ['/none', '/a b/none']) assert.equal(read(path), undefined);
  assert.deepEqual(read('/sub'), { error: 'EISDIR' });
  assert.deepEqual(read('/a\0b'), { error: 'ERR_INVALID_ARG_VALUE' });
  for (const path of ['/../secret', '/sub/../../secret']) assert.equal(read(path), undefined);
});
