/**
 * What the primary keeps of the log, and what readers of it get.
 */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';

import { logsOf } from '../src/control/logs.ts';
import { KEPT_BYTES, KEPT_LINES, LogMemory, type LogReader } from '../src/log/memory.ts';

const memoryOf = (...written: [worker: number | undefined, text: string][]) => {
  const memory = new LogMemory();
  for (const [worker, text] of written) memory.write({ stream: 'stdout', worker }, Buffer.from(text));
  return memory;
};

/** Everything that a reader gets: texts, and numbers of lines that are missing. */
function read(reader: LogReader): (string | number)[] {
  const parts = [];
  for (let part = reader.next(); part !== undefined; part = reader.next())
    parts.push('dropped' in part ? part.dropped : part.text);
  return parts;
}

test('a reader gets all lines in order, and then what is written meanwhile', () => {
  const memory = memoryOf([undefined, 'a\n'], [1, 'b\nc\n']);
  const reader = memory.read();
  assert.deepEqual(read(reader), ['a\n', 'b\nc\n']);
  memory.write({ stream: 'stderr', worker: 2 }, Buffer.from('d\n'));
  const part = reader.next();
  assert.ok(part !== undefined && 'text' in part);
  assert.deepEqual([part.text, part.stream, part.worker], ['d\n', 'stderr', 2]);
  assert.ok(Math.abs(Date.now() - part.at) < 60_000);
  assert.equal(reader.next(), undefined);
});

test('a reader of one worker gets its lines and no others', () => {
  const memory = memoryOf([1, 'a\nb\n'], [2, 'c\n'], [undefined, 'd\n'], [1, 'e\n']);
  assert.deepEqual(read(memory.read(1)), ['a\nb\n', 'e\n']);
  assert.deepEqual(read(memory.read(3)), []);
});

test('the lines of a worker that never was are refused, with the numbers of those that were', () => {
  const memory = memoryOf([12, 'a\n'], [3, 'b\n'], [undefined, 'c\n']);
  const message = 'there was no worker 99; there was 3, 4, 12';
  assert.throws(() => logsOf(memory, { worker: 99 }, [4, 3]), { status: 404, message });
  assert.throws(() => logsOf(new LogMemory(), { worker: 1 }), { status: 404, message: 'there was no worker 1; there was none' });
  for (const worker of [3, 4, 12]) logsOf(memory, { worker }, [4, 3]);
});

test('a reader may begin with the last lines, also in the middle of what was written together', () => {
  const memory = memoryOf([1, 'a\nb\nc\n'], [2, 'd\n'], [1, 'e\n']);
  assert.deepEqual(read(memory.read(undefined, 3)), ['c\n', 'd\n', 'e\n']);
  assert.deepEqual(read(memory.read(1, 3)), ['b\nc\n', 'e\n']);
  assert.deepEqual(read(memory.read(1, 100)), ['a\nb\nc\n', 'e\n']);
  const none = memory.read(undefined, 0);
  assert.deepEqual(read(none), []);
  memory.write({ stream: 'stdout', worker: 1 }, Buffer.from('f\n'));
  assert.deepEqual(read(none), ['f\n']);
});

test('the memory is bounded in bytes, and a reader that is too slow gets the number of lines that it has missed', () => {
  const memory = new LogMemory();
  const line = (number: number) => `${String(number).padStart(999, '.')}\n`;
  const write = (from: number, to: number) => {
    for (let number = from; number < to; number++)
      memory.write({ stream: 'stdout', worker: number % 3 }, Buffer.from(line(number)));
  };
  write(0, 10);
  const [slow, ofWorker] = [memory.read(), memory.read(1)];
  assert.equal((slow.next() as { text: string }).text, line(0));
  write(10, 5000);
  const kept = Math.floor(KEPT_BYTES / 1000);
  const [missing, first, ...rest] = read(slow);
  assert.deepEqual([missing, first, rest.at(-1), rest.length + 1], [5000 - kept - 1, line(5000 - kept), line(4999), kept]);
  const [missingOfWorker, firstOfWorker] = read(ofWorker);
  assert.ok(typeof firstOfWorker === 'string');
  const number = Number(firstOfWorker.replaceAll('.', ''));
  assert.deepEqual([number % 3, missingOfWorker], [1, (number - 1) / 3]);
  assert.equal(
    read(memory.read()).join(''),
    [...Array(kept).keys()].map(at => line(5000 - kept + at)).join(''),
    'in one piece each',
  );
});

test('the memory is bounded in lines', () => {
  const memory = new LogMemory();
  for (let number = 0; number < KEPT_LINES + 500; number++) memory.write({ stream: 'stdout' }, Buffer.from(`${number}\n`));
  const lines = read(memory.read());
  assert.deepEqual([lines.length, lines[0]], [KEPT_LINES, '500\n']);
});

test('a cut beginning is missing as well where it is forgotten before it is read', () => {
  const memory = memoryOf([1, 'a\nb\nc\n']);
  const reader = memory.read(undefined, 2);
  for (let number = 0; number < KEPT_LINES; number++) memory.write({ stream: 'stdout' }, Buffer.from(`${number}\n`));
  assert.deepEqual(read(reader).slice(0, 2), [2, '0\n']);
});

test('of very long output the last whole lines are kept, and the others count as missing', () => {
  const memory = new LogMemory();
  const reader = memory.read();
  memory.write({ stream: 'stdout' }, Buffer.from(`${'x'.repeat(KEPT_BYTES)}\n`));
  assert.equal(reader.next(), undefined);
  memory.write({ stream: 'stdout' }, Buffer.from(`${'x'.repeat(KEPT_BYTES)}\nb\nc\n`));
  assert.deepEqual(read(reader), [2, 'b\nc\n']);
  assert.deepEqual(read(memory.read(undefined, 1)), ['c\n']);
});

test('at most 16 readers at a time are served, and an end that waits for them has a time limit', async () => {
  const memory = memoryOf([1, 'a\n']);
  const responses = Array.from({ length: 16 }, () => new PassThrough());
  const answers = responses.map(response => logsOf(memory, { follow: true }).write(response));
  assert.throws(() => logsOf(memory, {}), { status: 409 });
  responses[0]?.destroy();
  await answers[0];
  responses[0] = new PassThrough({ highWaterMark: 1 }); // its reader takes nothing
  answers[0] = logsOf(memory, { follow: true }).write(responses[0]);
  await memory.end(20);
  await Promise.all(answers.slice(1));
  for (const response of responses.slice(1)) {
    response.end();
    const [first = '', ...others] = (await text(response)).trimEnd().split('\n');
    assert.deepEqual([JSON.parse(first).log.text, others], ['a\n', ['{"result":null}']]);
  }
  assert.equal(memory.readers, 1);
  responses[0].destroy();
  await answers[0];
  assert.equal(memory.readers, 0);
});

test('a request for the log with parameters of other types is refused', () => {
  const wrong = [{ worker: 'one' }, { worker: 1.5 }, { lines: -1 }, { lines: '5' }, { follow: 'yes' }];
  for (const parameters of wrong)
    assert.throws(() => logsOf(new LogMemory(), parameters), { status: 400 }, JSON.stringify(parameters));
});
