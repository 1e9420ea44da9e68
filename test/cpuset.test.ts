// Which CPUs the process may run on: the lists as sets, their intersection, and the file that is named for it.

import assert from 'node:assert/strict';
import test from 'node:test';
import { resolveLimits } from '../src/resources/cgroup.ts';

type Files = Record<string, string>;

const resolve = (files: Files) => resolveLimits(path => files[path]);
const V2 = { '/proc/self/mountinfo': '1 2 0:3 / /c rw - cgroup2 c rw\n' };
const v2 = (path: string, files: Files) => resolve({ ...V2, '/proc/self/cgroup': `0::${path}\n`, ...files });
const V1 = { '/proc/self/mountinfo': '1 2 0:3 / /c rw - cgroup c rw,cpuset\n', '/proc/self/cgroup': '3:cpuset:/a\n' };

test('the CPUs are the intersection of all lists, with the file that decides', () => {
  const boundOf = (allowed: string, effective: Files, online: string) =>
    v2('/a', {
      '/proc/self/status': `Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:${allowed}\nMems_allowed_list:\t0\n`,
      '/sys/devices/system/cpu/online': online,
      ...effective,
    });
  const [leaf, root] = ['/c/a/cpuset.cpus.effective', '/c/cpuset.cpus.effective'];
  const online = '/sys/devices/system/cpu/online';
  assert.deepEqual(boundOf('\t0-7', { [leaf]: '\n', [root]: '2-3\n' }, '0-7\n').cpuset, { value: 2, file: root });
  assert.deepEqual(boundOf('\t0-7', { [leaf]: '\n', [root]: '2-3\n' }, '0-7\n').skipped, [], 'an empty list is no garbage');
  assert.deepEqual(boundOf('\t0-7', { [leaf]: '1-x', [root]: '2-3\n' }, '0-7\n').cpuset, { value: 2, file: root });
  assert.deepEqual(boundOf('\t5\r', { [leaf]: '4-7' }, '0-7').cpuset, { value: 1, file: '/proc/self/status' });
  assert.deepEqual(boundOf('\t0-7', { [leaf]: '0-7' }, '0-7').cpuset, { value: 8, file: online }, 'nothing restricts');
  assert.deepEqual(boundOf('\t0-5', { [leaf]: '2-9' }, '0-3,5').cpuset, { value: 3, file: online });
  assert.deepEqual(boundOf(' 8-9', { [leaf]: '8-9' }, '0-1').cpuset, { value: 2, file: leaf }, 'LXCFS counts from 0');
  assert.deepEqual(boundOf(' 8-9', { [leaf]: '8-9' }, '0-1').skipped.length, 1);
});

test('CPU lists are parsed as sets', () => {
  const countOf = (list: string) => v2('/', { '/sys/devices/system/cpu/online': list }).cpuset?.value;
  assert.equal(countOf('0-3,2-5,5,9-9,1\n'), 7);
  assert.equal(countOf('9,0-3\n'), 5);
  assert.equal(countOf('0-5,1-2\n'), 6);
  assert.equal(countOf(' 0\t\r\n'), 1);
  for (const list of ['', '\n']) assert.equal(countOf(list), undefined);
  for (const list of [
    '3-1',
    '0-',
    '-1',
    '0,,1',
    '0,',
    '0x1',
    '+1',
    '0-1-2',
    '1 2',
    '0-3:1/2',
    'all',
    `1-${'9'.repeat(400)}`,
    `${'0,'.repeat(40_000)}0`,
  ]) {
    const limits = v2('/', { '/sys/devices/system/cpu/online': list });
    assert.equal(limits.cpuset, null, list);
    assert.match(limits.skipped[0]?.why ?? '', /^is malformed: "/, list);
  }
});

test('an absurd range of CPUs costs no time and never becomes a worker count', () => {
  const huge = { '/proc/self/status': 'Cpus_allowed_list:\t2-4294967295\n' };
  assert.equal(v2('/', { ...huge, '/sys/devices/system/cpu/online': '0-7' }).cpuset?.value, 6);
  assert.equal(v2('/', huge).cpuset, null);
  assert.equal(v2('/', huge).skipped.length, 1);
});

test("cgroup v1: the CPU set is effective_cpus, else cpus, else the parent's", () => {
  const boundOf = (files: Files) => resolve({ ...V1, ...files }).cpuset;
  const parent = { '/c/cpuset.effective_cpus': '0-7' };
  assert.equal(boundOf({ ...parent, '/c/a/cpuset.effective_cpus': '0', '/c/a/cpuset.cpus': '0-3' })?.value, 1);
  assert.equal(boundOf({ ...parent, '/c/a/cpuset.effective_cpus': '\n', '/c/a/cpuset.cpus': '0-3' })?.value, 4);
  assert.equal(boundOf({ ...parent, '/c/a/cpuset.cpus': '\n' })?.value, 8);
});
