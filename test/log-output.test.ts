import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { developerLine, prettyLine } from '../src/log/format.ts';
import { LogOutput } from '../src/log/output.ts';
import { WorkerOutput } from '../src/pool/worker-io.ts';

/** A reader that takes one write at a time, on request. */
class Reader {
  read = '';
  #done: (() => void) | undefined;

  readonly write = (bytes: Buffer, done: (error?: Error) => void) => {
    assert.equal(this.#done, undefined, 'one write at a time');
    this.#done = () => {
      this.read += bytes;
      this.#done = undefined;
      done();
    };
  };

  readOn(): void {
    while (this.#done !== undefined) this.#done();
  }
}

test('a log reader that does not read costs bounded memory, and gets the number of dropped lines later', async () => {
  const reader = new Reader();
  const output: LogOutput = new LogOutput(reader.write, lines => output.writeOwn(`missed ${lines}\n`));
  const [line, written] = ['x'.repeat(999), 1200];
  const chunk = Buffer.from(`${line}\n`.repeat(10));
  for (let count = 0; count < written; count++) output.write(chunk);
  assert.ok(output.droppedLines > 0 && output.droppedLines % 10 === 0);
  output.writeOwn('the primary has room\n');
  const dropped = output.droppedLines;
  await output.flush(20);
  reader.readOn();
  const lines = reader.read.trimEnd().split('\n');
  assert.deepEqual(
    lines.filter(text => text !== line),
    ['the primary has room', `missed ${dropped}`],
  );
  assert.equal(lines.length - 2 + dropped, written * 10);
  assert.ok(reader.read.length < 9 << 20);
  await output.flush(60_000);
});

test('log lines that cannot be written to a file are dropped and counted', async () => {
  const output = new LogOutput(
    (_, done) => setImmediate(done, new Error('ENOSPC')),
    () => assert.fail('nothing can be reported'),
  );
  output.write(Buffer.from('one\ntwo\n'));
  output.write(Buffer.from('three\n'));
  await output.flush(60_000);
  assert.equal(output.droppedLines, 3);
});

class Lines {
  readonly passed: string[] = [];
  write(lines: Buffer): void {
    this.passed.push(lines.toString());
  }
}

test('output of a worker is written in whole lines, and the rest when the worker ends', async () => {
  const [stream, lines] = [new PassThrough(), new Lines()];
  const output = new WorkerOutput(stream, lines);
  for (const piece of ['a', 'b\nc', 'd', '\n\ne\nf', 'g']) stream.write(piece);
  await output.settle();
  for (const passed of lines.passed) assert.match(passed, /\n$/);
  assert.equal(lines.passed.join(''), 'ab\ncd\n\ne\nfg\n');
});

test('an endless line of a worker is written in bounded pieces', async () => {
  const [stream, lines] = [new PassThrough({ highWaterMark: 8 << 20 }), new Lines()];
  const output = new WorkerOutput(stream, lines);
  for (let count = 0; count < 300; count++) stream.write('x'.repeat(10_000));
  await output.settle();
  assert.equal(lines.passed.join('').replaceAll('\n', '').length, 3_000_000);
  for (const passed of lines.passed) assert.ok(passed.endsWith('\n') && passed.length < 1_100_000);
  assert.ok(lines.passed.length >= 3);
});

test('the exit of a worker is not delayed by a child process that goes on writing to its output', async () => {
  const [stream, lines] = [new PassThrough(), new Lines()];
  const output = new WorkerOutput(stream, lines);
  const writing = setInterval(() => stream.write('again\n'), 1);
  await output.settle();
  clearInterval(writing);
});

test("output left in a worker's pipe is written before its exit is logged, also while the primary gets no CPU", async () => {
  const [stream, lines] = [new PassThrough(), new Lines()];
  const output = new WorkerOutput(stream, lines);
  const passedAtTheEnd = output.settle().then(() => lines.passed.length);
  // 250 KB, as from a pipe: a piece in each turn, and a quarter of a second without the CPU in between.
  for (let piece = 0; piece < 4; piece++) {
    stream.write(`${'x'.repeat(62_000)}\n`);
    const until = performance.now() + 250;
    while (performance.now() < until);
    await new Promise(resolve => setImmediate(resolve));
  }
  assert.equal(await passedAtTheEnd, 4);
});

test('a log line on a terminal has time, level, event and fields', () => {
  const line = '{"level":"warn","time":"2026-11-25T08:00:01.250Z","pid":7,"event":"pool.backoff","ms":200,"why":"it crashed"}\n';
  assert.equal(stripVTControlCharacters(prettyLine(line)), '08:00:01.250 warn  pool.backoff ms=200 why=it crashed\n');
});

test('the time of a line is local', () => {
  const { TZ } = process.env;
  process.env.TZ = 'Asia/Kolkata';
  const line = '{"level":"info","time":"2026-11-25T08:00:01.250Z","event":"x"}\n';
  assert.equal(prettyLine(line, false), '13:30:01.250 info  x\n');
  if (TZ === undefined) delete process.env.TZ;
  else process.env.TZ = TZ;
});

test('a developer sees what concerns the app, and no line of the pool itself', () => {
  const lineOf = (fields: object) => `${JSON.stringify({ level: 'info', time: '2026-11-25T08:00:01.250Z', ...fields })}\n`;
  assert.equal(developerLine(lineOf({ event: 'worker.ready', worker: 1 }), false), '');
  assert.match(developerLine(lineOf({ event: 'dev.reloaded', ms: 190 }), false), /^[\d:.]{12} info {2}dev\.reloaded ms=190\n$/);
  assert.match(developerLine(lineOf({ msg: 'paid', event: 'order' }), false), /info {2}order paid\n$/);
  const other = '{"event":"worker.ready"}\n';
  assert.equal(developerLine(other, false), other, 'output of the app is no line of the kit');
});

test('on a terminal a stack keeps its lines, and output of the app is unchanged', () => {
  const line = JSON.stringify({
    level: 'fatal',
    time: '2026-11-25T08:00:01.250Z',
    event: 'x',
    err: { stack: 'Error: no\n    at y' },
  });
  assert.equal(stripVTControlCharacters(prettyLine(line)), '08:00:01.250 fatal x\nError: no\n    at y\n');
  const notOurs = ['not json\n', 'null\n', '{"level":30,"time":1764403200000}\n', '{"level":"constructor","time":"x"}\n'];
  for (const kept of notOurs) assert.equal(prettyLine(kept), kept);
});

test('text of apps and clients cannot colour a terminal or move its cursor', () => {
  const line = JSON.stringify({
    level: 'info',
    time: '2026-11-25T08:00:01.250Z',
    event: 'request',
    path: '/\u001b[2J\u009b31m\nfatal',
    err: { stack: 'Error: \u001b[2J\n\tat y' },
  });
  assert.equal(
    stripVTControlCharacters(prettyLine(line)),
    '08:00:01.250 info  request path=/ [2J 31m fatal\nError:  [2J\n\tat y\n',
  );
});

test('a log line on a terminal omits empty fields and text of its stack, and has one field for each of an object', () => {
  const line = JSON.stringify({
    level: 'error',
    time: '2026-11-25T08:00:01.250Z',
    event: 'worker.exit',
    heapPerWorkerMb: null,
    semiSpaceMb: null,
    error: 'no database',
    drain: { finished: 2, cut: [], requests: [{ path: '/' }] },
    stack: 'AppError: no database\n    at y',
  });
  assert.equal(
    stripVTControlCharacters(prettyLine(line)),
    '08:00:01.250 error worker.exit drain.finished=2 drain.requests=[{"path":"/"}]\nAppError: no database\n    at y\n',
  );
});

test('a log line on a terminal has each frame of a hung worker on a line of its own', () => {
  const line = JSON.stringify({
    level: 'error',
    time: '2026-11-25T08:00:01.250Z',
    event: 'worker.hung',
    stack: ['a (x.js:1:1)', 'b (x.js:2:1)'],
  });
  assert.equal(
    stripVTControlCharacters(prettyLine(line)),
    '08:00:01.250 error worker.hung\n    at a (x.js:1:1)\n    at b (x.js:2:1)\n',
  );
});
