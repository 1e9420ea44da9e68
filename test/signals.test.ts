/**
 * From signals to commands, in virtual time.
 */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, type CommandContext, execute, SignalQueue } from '../src/primary/signals.ts';

function queue() {
  const source = new EventEmitter();
  const timers: { at: number; callback: () => void }[] = [];
  let now = 0;
  const commands: Command[] = [];
  const signals = new SignalQueue(source as unknown as NodeJS.Process, (ms, callback) => timers.push({ at: now + ms, callback }));
  const open = () => signals.open(command => commands.push(command));
  const signal = async (name: NodeJS.Signals, ms = 0) => {
    now += ms;
    for (const { at, callback } of timers) if (at <= now) callback();
    source.emit(name);
    await new Promise(setImmediate);
  };
  return { open, signal, commands };
}

test('each signal of the contract names its command', async () => {
  const { open, signal, commands } = queue();
  open();
  for (const name of ['SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2', 'SIGUSR1', 'SIGTERM'] as const) await signal(name);
  assert.deepEqual(commands, ['restart', 'one-more', 'one-fewer', 'heap-snapshot', 'ignore', 'shutdown']);
});

test('signals that arrive before the primary is loaded are carried out in order', async () => {
  const { open, signal, commands } = queue();
  await signal('SIGHUP');
  await signal('SIGINT');
  assert.deepEqual(commands, []);
  open();
  assert.deepEqual(commands, ['restart', 'shutdown']);
});

test('a second shutdown signal within 100 ms is the same one, and a later one exits at once', async () => {
  const { open, signal, commands } = queue();
  open();
  await signal('SIGINT');
  await signal('SIGTERM', 99);
  assert.deepEqual(commands, ['shutdown']);
  await signal('SIGTERM', 1);
  assert.deepEqual(commands, ['shutdown', 'exit-now']);
  await signal('SIGINT');
  assert.deepEqual(commands, ['shutdown', 'exit-now', 'exit-now']);
});

test('two shutdown signals of one moment are the same one, though the first one keeps the primary busy for longer than 100 ms', async () => {
  const commands: Command[] = [];
  const signals = new SignalQueue(process);
  signals.open(command => {
    commands.push(command);
    if (commands.length > 1) return;
    process.kill(process.pid, 'SIGTERM');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  });
  process.kill(process.pid, 'SIGTERM');
  await sleep(500);
  assert.deepEqual(commands, ['shutdown']);
  process.kill(process.pid, 'SIGTERM');
  await sleep(100);
  assert.deepEqual(commands, ['shutdown', 'exit-now']);
});

test('SIGTTIN adds one worker, and SIGTTOU removes one but leaves at least one', () => {
  const counts: unknown[] = [];
  const context = {
    supervisor: { wanted: 1 },
    resizer: { scale: async (workers: { count: number }, isForced: boolean) => counts.push([workers.count, isForced]) },
  } as unknown as CommandContext;
  execute('one-more', context);
  execute('one-fewer', context);
  assert.deepEqual(counts, [
    [2, false],
    [1, false],
  ]);
});
