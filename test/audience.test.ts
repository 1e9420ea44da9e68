/**
 * A worker's report of an error of its app, and the part that may be shown anywhere.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { audienceOf, describeOpenly, fingerprintOf, requestsFor } from '../src/protocol/audience.ts';
import { AppError, reportOf } from '../src/worker/error-report.ts';
import { temporaryFolder } from './process/operator.ts';

const SECRET = 'postgres://u:p@h';
const FILE = 'test/audience.test.ts';

const open = (thrown: unknown) => describeOpenly(reportOf(thrown));

test('an open error has its class, code, file, line and a fingerprint of its message', () => {
  class QueryError extends Error {
    readonly code = '28P01';
  }
  assert.match(open(new QueryError(SECRET)), new RegExp(`^QueryError 28P01 at ${FILE}:\\d+, message #[0-9a-f]{8}$`));
  assert.equal(fingerprintOf(SECRET), fingerprintOf(SECRET));
  assert.notEqual(fingerprintOf(SECRET), fingerprintOf('another'));
});

test('an open error of the kit says what has failed, in its own words, and then the class and code of the cause', () => {
  const cause = Object.assign(new TypeError(SECRET), { code: 'ERR_MODULE_NOT_FOUND' });
  const own = '/app/server.js does not exist';
  assert.match(
    open(new AppError(`${own}: ${SECRET}`, { own, cause })),
    /^\/app\/server\.js does not exist: TypeError ERR_MODULE_NOT_FOUND at /,
  );
  assert.match(open(new AppError(`${own}: ${SECRET}`, { own })), /^\/app\/server\.js does not exist, message #[0-9a-f]{8}$/);
  assert.doesNotMatch(open(new AppError(SECRET, { own: 'x'.repeat(9999) })), /x{600}/);
  assert.ok(!open(Object.assign(new Error('x'), { own: SECRET })).includes(SECRET), 'only the kit has words of its own');
});

test('an open syntax error has its file, and not its text', async () => {
  const file = join(temporaryFolder(), 'broken.cjs');
  writeFileSync(file, `\nconst = '${SECRET}';\n`);
  const error = await import(pathToFileURL(file).href).catch(thrown => thrown);
  assert.match(open(error), new RegExp(`^SyntaxError at ${file}:2, message #`));
});

test('an open error never contains text of the app', () => {
  const named = Object.assign(new Error('x'), { name: SECRET, code: SECRET });
  const likeAStack = new Error(`x\n    at ${SECRET} (/${SECRET}:1:1)\n    at file:///${SECRET}:1:1`);
  const stacked = Object.assign(new Error('x'), { stack: `Error: x\n    at f (/${SECRET}:1:1)` });
  const classed = new (class extends Error {})(SECRET);
  Object.defineProperty(classed.constructor, 'name', { value: SECRET });
  for (const error of [named, likeAStack, stacked, classed, SECRET, { message: SECRET }, new Error('x', { cause: SECRET })])
    assert.ok(!open(error).includes(SECRET), open(error));
});

test('every thrown value has a description', () => {
  const unreadable = new Proxy(new Error('x'), {
    get: () => {
      throw new Error('no');
    },
  });
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  for (const thrown of [null, undefined, 1, 'text', Symbol('s'), {}, Object.create(null), unreadable, proxy])
    assert.match(open(thrown), /^\w+.*, message #[0-9a-f]{8}$/);
});

test('only a port that requires a token shows the paths of requests', () => {
  assert.deepEqual([audienceOf(undefined), audienceOf('token')], ['open', 'operator']);
  const request = { method: 'GET', path: `/reset/${SECRET}`, ageMs: 1, bytesSent: 2 };
  assert.deepEqual(requestsFor('open', [request]), [{ method: 'GET', ageMs: 1, bytesSent: 2 }]);
  assert.deepEqual(requestsFor('operator', [request]), [request]);
});
