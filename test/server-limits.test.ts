/**
 * Timeouts and limits of a server of the app: variable, app, default.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { test } from 'node:test';
import { applyLimits, createServer as createKitServer } from '../src/worker/server-limits.ts';

const LIMITS = {
  keepAliveTimeoutMs: 75_000,
  headersTimeoutMs: 61_000,
  requestTimeoutMs: 299_000,
  maxHeaderBytes: 20_000,
  responseTimeHeader: true,
};

const limitsOf = ({ keepAliveTimeout, headersTimeout, requestTimeout, ...rest }: ReturnType<typeof createServer>) => [
  keepAliveTimeout,
  headersTimeout,
  requestTimeout,
  Reflect.get(rest, 'maxHeaderSize'),
];

test('what the app has not set gets the default of the kit', () => {
  const server = createServer();
  applyLimits(server, LIMITS, () => false);
  assert.deepEqual(limitsOf(server), [75_000, 61_000, 299_000, 20_000]);
});

test('what the app has set stays, also 0 and what follows from it, and may change later', () => {
  const server = createServer({ requestTimeout: 0, maxHeaderSize: 8192 });
  server.keepAliveTimeout = 65_000;
  applyLimits(server, LIMITS, () => false);
  assert.deepEqual(limitsOf(server), [65_000, 0, 0, 8192]);
  server.keepAliveTimeout = 10;
  assert.equal(server.keepAliveTimeout, 10);
});

test('a variable wins over the app, whenever the app sets its value', () => {
  const server = createServer({ keepAliveTimeout: 1000, headersTimeout: 2000 });
  applyLimits(server, LIMITS, limit => limit === 'keepAliveTimeoutMs');
  server.keepAliveTimeout = 10;
  assert.deepEqual(limitsOf(server), [75_000, 2000, 299_000, 20_000]);
});

test('a client that is too slow with its headers gets 408 soon after HEADERS_TIMEOUT_MS', { timeout: 10_000 }, async context => {
  const server = createKitServer({ ...LIMITS, headersTimeoutMs: 50 }, () => undefined).listen(0, '127.0.0.1');
  context.after(() => server.close());
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1', () => client.write('GET / HT'));
  const [answer] = await once(client, 'data'); // Node.js alone would look after 30 s
  assert.match(String(answer), /^HTTP\/1.1 408 /);
});
