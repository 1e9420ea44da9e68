/**
 * What is read from /proc, against what is known of this process.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { test } from 'node:test';
import { procFacts } from '../src/admin/process-metrics.ts';

test('the memory of this process is reported as 0 without /proc', async t => {
  t.mock.method(process, 'memoryUsage', () => {
    throw new Error('ENOENT: no such file or directory, uv_resident_set_memory');
  });
  const { memoryUsage } = await import('../src/resources/usage.ts');
  assert.equal(memoryUsage().rss, 0);
});

const withProc = { skip: !existsSync('/proc/self/limits') };

test('open files are counted, and what may be open is reported', withProc, () => {
  const before = procFacts(process.pid);
  const files = Array.from({ length: 10 }, () => openSync('/dev/null', 'r'));
  const after = procFacts(process.pid);
  for (const file of files) closeSync(file);
  assert.ok(before && after);
  assert.equal(after.openFds - before.openFds, files.length);
  const limit = execFileSync('sh', ['-c', 'ulimit -Sn'], { encoding: 'utf8' }).trim();
  assert.equal(after.maxFds, limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit));
});

test('memory is in bytes', withProc, () => {
  const { virtualBytes = 0, heapBytes = 0 } = procFacts(process.pid) ?? {};
  assert.ok(virtualBytes > process.memoryUsage.rss(), `${virtualBytes}`);
  assert.ok(heapBytes > 1e6 && heapBytes < virtualBytes, `${heapBytes}`);
});

test('a process that has exited has no facts', withProc, async () => {
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  assert.equal(procFacts(child.pid ?? 0), undefined);
});
