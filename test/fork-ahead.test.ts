/**
 * The first worker is forked before the rest of the primary is loaded (first-fork.ts): what happens to it meanwhile is not lost.
 */
import assert from 'node:assert/strict';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { LogOutputs } from '../src/log/output.ts';
import type { WorkerEvent } from '../src/pool/effects.ts';
import { Moves } from '../src/pool/moves.ts';
import { forkAhead } from '../src/pool/spawn.ts';
import { WorkerProcess } from '../src/pool/worker-process.ts';
import { newWorker } from '../src/pool/worker-state.ts';
import { Lines, turns } from './simulated-worker.ts';
import { until } from './until.ts';

/** Forks a worker that runs `source`, as the primary does before it loads the rest. */
function fork(t: TestContext, source: string, execPath = process.execPath) {
  const folder = mkdtempSync(join(tmpdir(), 'bosun-fork-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const exec = join(folder, 'worker.cjs');
  writeFileSync(exec, source);
  const stdio: ('inherit' | 'pipe' | 'ipc')[] = ['inherit', 'pipe', 'pipe', 'ipc'];
  return forkAhead({ execPath, cluster: { exec, cwd: folder, execArgv: [], stdio, inspectPort: undefined }, environment: {} });
}

/** The WorkerProcess that takes it, with what it has reported and written. */
function take(first: ReturnType<typeof fork>) {
  const record = newWorker({
    id: 1,
    generation: 1,
    heap: { heapPerWorkerMb: null, semiSpaceMb: null },
    maxRequests: 0,
    startedAt: performance.now(),
  });
  const events: WorkerEvent[] = [];
  const outputs = { stdout: new Lines(), stderr: new Lines() };
  const handle = new WorkerProcess(
    record,
    {
      fork: first,
      sessionKeys: () => [],
      retained: () => [],
      listeners: [],
      outputs: outputs as unknown as LogOutputs,
      moves: new Moves(() => []),
      isInspected: false,
    },
    { onEvent: event => void events.push(event), onMalformed: () => undefined, whoKilled: () => 'killed' },
  );
  const event = () =>
    until(
      () => events[0],
      () => `nothing reported; written: ${outputs.stdout.text}${outputs.stderr.text}`,
    );
  return { handle, event, outputs };
}

test('the output and the exit of a worker that ends before it is taken are passed on', async t => {
  const first = fork(t, "process.stdout.write('out\\n'); process.stderr.write('bad option\\n'); process.exit(9);");
  await once(cluster, 'exit');
  await turns(); // in which Node.js discards output that nobody reads
  const { handle, event, outputs } = take(first);
  assert.partialDeepStrictEqual(await event(), { type: 'exited', how: { code: 9, signal: null } });
  assert.equal(outputs.stdout.text, 'out\n');
  assert.equal(outputs.stderr.text, 'bad option\n');
  assert.ok(handle.pid > 0);
});

test('a worker that lives when it is taken gets its start message', async t => {
  const report = "process.on('internalMessage', ({ message }) => message && process.stdout.write(message.type + '\\n'));";
  const { handle, event, outputs } = take(fork(t, report));
  await until(
    () => (outputs.stdout.text === 'start\n' ? true : undefined),
    () => `got "${outputs.stdout.text}", ${outputs.stderr.text}`,
  );
  handle.kill();
  assert.partialDeepStrictEqual(await event(), { type: 'exited', how: { signal: 'SIGKILL' } });
});

test('a worker that the system has not started before it is taken has failed to start', async t => {
  const first = fork(t, '', join(tmpdir(), 'no-such-node'));
  await turns();
  const { handle, event } = take(first);
  const exited = await event();
  assert.equal(handle.pid, 0);
  assert.ok(exited.type === 'exited' && 'error' in exited.how);
  assert.match(String(exited.how.error), /ENOENT/);
});
