/**
 * The channel and the output of a worker, with streams in memory.
 */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { InspectorLines, WorkerChannel, WorkerOutput } from '../src/pool/worker-io.ts';
import { seal, type ToPrimary } from '../src/protocol/messages.ts';
import { Lines, SimulatedWorker, turns } from './simulated-worker.ts';

function openChannel() {
  const worker = new SimulatedWorker();
  const received: ToPrimary[] = [];
  const connections: unknown[] = [];
  const errors: Error[] = [];
  /** What node:cluster's own listeners get. */
  const own: unknown[][] = [];
  for (const event of ['message', 'internalMessage'])
    worker.process.on(event, (...args: unknown[]) => void own.push([event, ...args]));
  const channel = new WorkerChannel(worker.asWorker, {
    onMessage: (message, connection) => {
      received.push(message);
      connections.push(connection);
    },
    onMalformed: error => void errors.push(error),
  });
  return { worker, channel, received, connections, errors, own, child: worker.process };
}

test('a message in the envelope of the kit is parsed and passed on, on whichever event it arrives', () => {
  const { child, received, errors, own } = openChannel();
  assert.equal(child.emit('internalMessage', seal({ type: 'ready', port: 80, more: 1 }), undefined), true);
  assert.equal(child.emit('message', seal({ type: 'cordoned' }), undefined), true);
  assert.deepEqual(received, [{ type: 'ready', port: 80 }, { type: 'cordoned' }]);
  assert.deepEqual([errors, own], [[], []]);
});

test('what the app sends itself is dropped without a report', () => {
  const { child, received, errors, own } = openChannel();
  for (const message of [{ type: 'ready', port: 80 }, 'text', null, undefined, 7]) child.emit('message', message, undefined);
  assert.deepEqual([received, errors, own], [[], [], []]);
});

test('a malformed message in the envelope is reported and dropped', () => {
  const { child, received, errors } = openChannel();
  assert.equal(child.emit('internalMessage', seal({ type: 'ready', port: -1 }), undefined), true);
  assert.equal(errors.length, 1);
  assert.match(errors[0]?.message ?? '', /port/);
  assert.deepEqual(received, []);
});

test('messages of node:cluster reach its own listeners with their handles, and other events stay as they are', () => {
  const { child, own, errors } = openChannel();
  const handle = { close: () => assert.fail('it belongs to node:cluster') };
  const message = { cmd: 'NODE_CLUSTER', act: 'listening' };
  assert.equal(child.emit('internalMessage', message, handle), true);
  assert.deepEqual(own, [['internalMessage', message, handle]]);
  const exits: unknown[][] = [];
  child.on('exit', (...args) => void exits.push(args));
  assert.equal(child.emit('exit', 1, 'SIGTERM'), true);
  assert.equal(child.emit('disconnect'), false);
  assert.deepEqual([exits, errors], [[[1, 'SIGTERM']], []]);
});

test('a forged message of node:cluster, for which its listener throws, is reported and ends nothing', () => {
  const { child, errors } = openChannel();
  let thrown: unknown = new TypeError('unknown handle');
  child.on('internalMessage', () => {
    throw thrown;
  });
  assert.equal(child.emit('internalMessage', { cmd: 'NODE_HANDLE' }, undefined), true);
  thrown = 'text';
  child.emit('internalMessage', { cmd: 'NODE_HANDLE' }, undefined);
  assert.deepEqual(
    errors.map(error => [error instanceof Error, error.message]),
    [
      [true, 'unknown handle'],
      [true, 'text'],
    ],
  );
});

test('a socket or server that the app sends is closed in the primary', () => {
  const { child, errors } = openChannel();
  const closed: string[] = [];
  const close = () => void closed.push('closed');
  child.emit('message', 'socket', { destroy: () => void closed.push('destroyed'), close });
  child.emit('message', 'server', { close });
  child.emit('internalMessage', seal({ type: 'exiting' }), { close });
  for (const handle of [null, undefined, 'text', {}, { destroy: 1 }, { close: 1 }, { destroy: 1, close }]) {
    child.emit('message', 'x', handle);
  }
  assert.deepEqual(closed, ['destroyed', 'closed', 'closed', 'closed']);
  assert.deepEqual(errors, []);
});

test('the connection of a move is passed on open, and any other handle that comes with one is closed', () => {
  const { child, connections, received } = openChannel();
  const closed: string[] = [];
  const close = () => void closed.push('closed');
  const TCP = { TCP: class {} }.TCP; // named as libuv's class
  const connection = Object.assign(new TCP(), { close });
  const move = seal({ type: 'move', id: 1 });
  child.emit('internalMessage', move, connection);
  assert.deepEqual([connections, closed], [[connection], []]);
  child.emit('internalMessage', move, { close });
  child.emit('internalMessage', seal({ type: 'exiting' }), connection);
  child.emit('internalMessage', { cmd: 'NODE_HANDLE', msg: move }, undefined);
  assert.deepEqual(connections, [connection, undefined, undefined, undefined]);
  assert.deepEqual(closed, ['closed', 'closed']);
  assert.deepEqual(received.at(-1), { type: 'move', id: 1 }, 'its connection did not arrive');
});

test('a message to a worker is called back when it is written, and at once where the channel is closed', () => {
  const { worker, channel } = openChannel();
  let written = 0;
  channel.send({ type: 'cordon' }, () => void written++);
  channel.send({ type: 'uncordon' });
  assert.deepEqual([worker.sent, written, channel.isOpen], [[{ type: 'cordon' }, { type: 'uncordon' }], 0, true]);
  worker.reads();
  assert.equal(written, 1);
  worker.isOpen = false;
  channel.send({ type: 'cordon' }, () => void written++);
  channel.send({ type: 'cordon' });
  assert.deepEqual([worker.sent.length, written, channel.isOpen], [2, 2, false]);
});

function openOutput() {
  const stream = new PassThrough({ highWaterMark: 1 << 24 });
  const lines = new Lines();
  const output = new WorkerOutput(stream, lines);
  return { stream, lines, output };
}

const BUSY = 'x'.repeat((32 << 10) - 1);

test('output is passed on in whole lines, and a line in pieces when it is complete', async () => {
  const { stream, lines } = openOutput();
  stream.write(`${BUSY}\n`);
  assert.deepEqual(lines.writes, [`${BUSY}\n`]);
  stream.write(`a\n${BUSY}\nbegun`);
  assert.deepEqual(lines.writes.slice(1), [`a\n${BUSY}\n`]);
  stream.write(`${BUSY}\nnext`);
  stream.write(`${BUSY}\n`);
  assert.deepEqual(lines.writes.slice(2), [`begun${BUSY}\n`, `next${BUSY}\n`]);
});

test('a worker that ends within a line gets a line ending, and nothing where its last line was complete', async () => {
  const { stream, lines, output } = openOutput();
  stream.write('no more');
  await output.settle();
  await output.settle();
  assert.equal(lines.text, 'no more\n');
  const closing = openOutput();
  closing.stream.end('one\ntwo');
  await turns();
  assert.equal(closing.lines.text, 'one\ntwo\n');
  const whole = openOutput();
  whole.stream.end('one\n');
  await turns();
  await whole.output.settle();
  assert.deepEqual(whole.lines.writes, ['one\n']);
});

test('a line without an end is cut above 1 MiB, and not before', () => {
  const { stream, lines } = openOutput();
  stream.write(Buffer.alloc(1 << 19, 'a'));
  stream.write(Buffer.alloc(1 << 19, 'b'));
  assert.equal(lines.text, '', 'exactly 1 MiB waits');
  stream.write(Buffer.alloc(32 << 10, 'c'));
  assert.equal(lines.text.length, (1 << 20) + (32 << 10) + 1);
  assert.match(lines.text, /^a+b+c+\n$/);
  stream.write(`${BUSY}\n`);
  assert.equal(lines.writes.at(-1), `${BUSY}\n`, 'what was cut is not written again');
});

test('complete lines do not count towards the length of the line that follows', () => {
  const { stream, lines } = openOutput();
  stream.write(`${BUSY}\n${'x'.repeat((1 << 20) - 10)}`);
  assert.equal(lines.text, `${BUSY}\n`);
});

test('a line that grows by single bytes arrives whole', async () => {
  const { stream, lines, output } = openOutput();
  const settled = output.settle();
  for (let number = 0; number < 250; number++) stream.write(String(number % 10));
  stream.write('\n');
  await settled;
  assert.equal(lines.text, `${'0123456789'.repeat(25)}\n`);
});

test('after a small chunk the pipe rests for 10 ms, and after a full one it is read at once', t => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { stream } = openOutput();
  stream.write(`${BUSY}\n`);
  assert.equal(stream.isPaused(), false, 'exactly 32 KiB');
  stream.write(`${BUSY.slice(1)}\n`);
  assert.equal(stream.isPaused(), true);
  t.mock.timers.tick(9);
  assert.equal(stream.isPaused(), true);
  t.mock.timers.tick(1);
  assert.equal(stream.isPaused(), false);
});

test('everything that a worker wrote before its exit is passed on, even while the pipe rests', async () => {
  const { stream, lines, output } = openOutput();
  stream.write('one\n');
  assert.equal(stream.isPaused(), true);
  for (let number = 0; number < 5; number++) stream.write('more\n');
  stream.write('last');
  await output.settle();
  assert.equal(lines.text, `one\n${'more\n'.repeat(5)}last\n`);
});

test('a worker that has exited is waited for as long as its pipe brings input, but not for a child process that writes on', async () => {
  const { stream, lines, output } = openOutput();
  let written = 0;
  let isOver = false;
  const write = () => {
    stream.write(`${++written}\n`);
    if (written < 1000 && !isOver) setImmediate(write);
  };
  write();
  await output.settle();
  isOver = true;
  assert.ok(written >= 90 && written <= 110, `${written} turns`);
  assert.match(lines.text, /^1\n2\n3\n/);
});

test('a pipe that a child process holds open without a word is waited for only a few turns', async () => {
  const { output } = openOutput();
  let hasSettled = false;
  void output.settle().then(() => (hasSettled = true));
  await turns(10);
  assert.equal(hasSettled, true);
});

test('what a worker prints after its output has settled makes the pipe rest again', async () => {
  const { stream, output } = openOutput();
  await output.settle();
  stream.write('late\n');
  assert.equal(stream.isPaused(), true);
});

test('the end of a pipe that has closed is not waited for', async () => {
  const { stream, output } = openOutput();
  stream.destroy(new Error('EIO'));
  await turns();
  let hasSettled = false;
  void output.settle().then(() => (hasSettled = true));
  for (let turn = 0; turn < 3; turn++) await Promise.resolve();
  assert.equal(hasSettled, true);
});

test('the line about an inspector leaves nothing in the output, and an address that is not of this machine opens nothing', () => {
  const lines = new Lines();
  const opened: string[] = [];
  const sink = new InspectorLines(lines, address => void opened.push(address));
  const address = 'ws://127.0.0.1:40001/1aff7f5e-4df8-47cd-9841-b430fb448b14';
  for (const printed of [`ws://10.0.0.1:80/${address}`, `${address}/more`, address])
    sink.write(Buffer.from(`Debugger listening on ${printed}\n`));
  assert.deepEqual([lines.writes, opened], [[], [address]]);
});
