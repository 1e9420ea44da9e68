import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { prettyLine } from '../src/log/output.ts';

test('a log line on a terminal has time, level, event and fields', () => {
  const line = '{"level":"warn","time":"2026-11-25T08:00:01.250Z","pid":7,"event":"pool.backoff","ms":200,"why":"it crashed"}\n';
  assert.equal(stripVTControlCharacters(prettyLine(line)), '08:00:01.250 warn  pool.backoff ms=200 why=it crashed\n');
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
