// The limits resolver against hostile and damaged files: it never throws, always gives the same answer, and costs bounded time.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { type Limits, resolveLimits } from '../src/resources/cgroup.ts';
import { readUsage } from '../src/resources/usage.ts';
import { type Random, seededRandom } from './random.ts';

type Files = Record<string, string | { error: string }>;

const fixtures = join(import.meta.dirname, 'fixtures/cgroup');
const trees: Files[] = readdirSync(fixtures).flatMap(name =>
  JSON.parse(readFileSync(join(fixtures, name), 'utf8')).map((vector: { files: Files }) => vector.files),
);
const ROUNDS_PER_TREE = 120;

test('damaged cgroup files cause no exception and only valid limits, the same ones each time', () => {
  const random = seededRandom(0xb05);
  const damages = [randomBytes, truncate, dropLine, repeatLine, swapCharacter, randomNumber];
  for (const files of trees) {
    for (let round = 0; round < ROUNDS_PER_TREE; round += 1) {
      const damaged: Files = { ...files };
      for (const path of Object.keys(files)) {
        const text = files[path];
        const damage = damages[Math.floor(random() * damages.length)];
        if (typeof text !== 'string' || damage === undefined || random() < 0.6) continue;
        damaged[path] = random() < 0.05 ? { error: 'EIO' } : damage(text, random);
      }
      const limits = resolve(damaged);
      assert.deepEqual(resolve(damaged), limits);
      assertSane(limits, JSON.stringify(damaged));
    }
  }
});

test('hostile cgroup files cost a bounded time', () => {
  const mount = (root: string, point: string) => `1 2 0:3 ${root} ${point} rw - cgroup2 c rw\n`;
  const mounts = (count: number) => Array.from({ length: count }, (_, i) => mount('/', `/m${i}`)).join('');
  const online = '/sys/devices/system/cpu/online';
  const hostile: Record<string, Files> = {
    'a long list': { [online]: `${'0-9,'.repeat(16_000)}1` },
    'a deep path': { '/proc/self/cgroup': `0::${'/a'.repeat(2_000)}`, '/proc/self/mountinfo': mounts(50) },
    'a long path': { '/proc/self/cgroup': `0::${'/a'.repeat(500_000)}`, '/proc/self/mountinfo': mounts(50) },
    'many mounts': { '/proc/self/cgroup': `0::${'/a'.repeat(100)}`, '/proc/self/mountinfo': mounts(30_000) },
    'a long mount point': {
      '/proc/self/cgroup': `0::${'/a'.repeat(2_000)}`,
      '/proc/self/mountinfo': mount('/', `/${'b'.repeat(1e6)}`),
    },
    'many controllers': { '/proc/self/cgroup': `1:${'cpu,'.repeat(300_000)}:/`, '/proc/self/mountinfo': mounts(1) },
    colons: { '/proc/self/cgroup': `1${':'.repeat(1e6)}`, '/proc/self/mountinfo': ' '.repeat(1e6) },
    escapes: { '/proc/self/cgroup': '0::/', '/proc/self/mountinfo': mount('/', `/${'\\040'.repeat(200_000)}`) },
    digits: {
      '/proc/self/cgroup': '0::/',
      '/proc/self/mountinfo': mount('/', '/m'),
      '/m/cpu.max': '1'.repeat(2e6),
      '/m/memory.max': '1'.repeat(2e6),
    },
    spaces: {
      '/proc/self/cgroup': '0::/',
      '/proc/self/mountinfo': mount('/', '/m'),
      '/m/cpu.max': `1${' '.repeat(1e6)}1${' 2'.repeat(1e6)}`,
    },
    'a large range': { [online]: '0-4294967295', '/proc/self/status': 'Cpus_allowed_list:\t0-4294967295' },
    'many ranges': { [online]: Array.from({ length: 500_000 }, (_, i) => i * 2).join() },
    'a list of ranges': {
      [online]: Array.from({ length: 9_000 }, (_, i) => i * 2).join(),
      '/proc/self/status': `Cpus_allowed_list:\t${'0-9,'.repeat(9_000)}1`,
    },
  };
  for (const [name, files] of Object.entries(hostile)) {
    // Minutes, where a cost grew with the square of the length. CPU time and not the clock: others may have the machine meanwhile.
    const began = process.cpuUsage();
    const limits = resolve(files);
    const { user, system } = process.cpuUsage(began);
    const milliseconds = (user + system) / 1000;
    assert.ok(milliseconds < 10_000, `${name} took ${milliseconds.toFixed()} ms of CPU time`);
    assertSane(limits, name);
    assert.ok(JSON.stringify([limits.levels, limits.skipped]).length < 1e6, `${name}: what is printed is bounded`);
  }
  const named = resolve(hostile['many mounts'] ?? {}).skipped.map(({ why }) => why);
  assert.deepEqual(named, ['more than 4096 directories; the rest was not read']);
});

test("names of JavaScript's own properties have no effect in cgroup files", () => {
  const line = '1 2 0:3 / /__proto__ rw - cgroup2 c rw\n1 2 0:3 / /x rw - cgroup c rw,constructor';
  const limits = resolve({
    '/proc/self/cgroup': '1:__proto__,constructor:/x\n0::/toString\n',
    '/proc/self/mountinfo': line,
    '/__proto__/cpu.max': '1 2',
  });
  assert.equal(limits.quota?.value, 0.5);
});

function resolve(files: Files): Limits {
  const read = (path: string) => (Object.hasOwn(files, path) ? files[path] : undefined);
  const limits = resolveLimits(read);
  readUsage(read, limits.usage);
  return limits;
}

function assertSane({ quota, cpuset, memory, memoryHigh, levels }: Limits, context: string) {
  assert.ok(
    levels.every(level => level.text.length <= 200),
    `${context}: what is printed is short`,
  );
  const finite = (value: number) => Number.isFinite(value) && value >= 0;
  assert.ok(quota === null || (finite(quota.value) && quota.value > 0), context);
  assert.ok(cpuset === null || (Number.isInteger(cpuset.value) && cpuset.value >= 1 && cpuset.value <= 65_536), context);
  for (const bound of [memory, memoryHigh]) assert.ok(bound === null || (finite(bound.value) && bound.value < 2 ** 62), context);
}

function randomBytes(_text: string, random: Random): string {
  return Buffer.from(Array.from({ length: Math.floor(random() * 200) }, () => random() * 256)).toString();
}

function truncate(text: string, random: Random): string {
  return text.slice(0, Math.floor(random() * text.length));
}

function dropLine(text: string, random: Random): string {
  const lines = text.split('\n');
  return lines.toSpliced(Math.floor(random() * lines.length), 1).join('\n');
}

function repeatLine(text: string, random: Random): string {
  const lines = text.split('\n');
  const line = lines[Math.floor(random() * lines.length)] ?? '';
  return lines.toSpliced(Math.floor(random() * lines.length), 0, line).join('\n');
}

/** Puts one of the characters that mean something where it does not belong. */
function swapCharacter(text: string, random: Random): string {
  const at = Math.floor(random() * (text.length + 1));
  const meaningful = ':/\\-., \n\r\t\0+0129max\u2028';
  return text.slice(0, at) + (meaningful[Math.floor(random() * meaningful.length)] ?? '') + text.slice(at + 1);
}

function randomNumber(text: string, random: Random): string {
  const numbers = ['0', '-1', '1', '4294967295', '18446744073709551615', '9'.repeat(400), '1e9', 'NaN', 'Infinity', 'max'];
  return text.replaceAll(/\d+/g, number => (random() < 0.3 ? (numbers[Math.floor(random() * numbers.length)] ?? '') : number));
}
