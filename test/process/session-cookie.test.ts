/**
 * The session cookie as a browser gets it. What is in a session, and who may write it: test/container/sessions.test.ts, session-writes.test.ts, koa-session.test.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { request } from './clients.ts';
import { startKit } from './kit.ts';

test('the session cookie is HttpOnly, and over TLS also Secure with the prefix __Host-', async () => {
  const kit = await startKit({ app: 'sessions.ts', env: { TRUST_PROXY: 'true', NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  const cookies = async (proto: string) =>
    (await request(port, '/increment', { headers: { 'X-Forwarded-Proto': proto } })).headers['set-cookie']?.split('\n') ?? [];
  const secure = await cookies('https');
  assert.equal(secure.length, 2, 'the session and its signature');
  for (const line of secure)
    assert.match(line, /^__Host-koa:sess(\.sig)?=[^;]+; path=\/; expires=[^;]+; samesite=lax; secure; httponly$/);
  const plain = await cookies('http');
  assert.equal(plain.length, 2);
  for (const line of plain) assert.match(line, /^koa:sess(\.sig)?=[^;]+; path=\/; expires=[^;]+; samesite=lax; httponly$/);

  const cookie = secure.map(line => line.split(';', 1)[0]).join('; ');
  const counterWith = async (proto: string) =>
    JSON.parse((await request(port, '/increment', { headers: { 'X-Forwarded-Proto': proto, Cookie: cookie } })).body).counter;
  assert.equal(await counterWith('https'), 2);
  assert.equal(await counterWith('http'), 1, 'what came over TLS counts over TLS only');
});

test('a session too large for a cookie is an error that names the limit, and the cookie keeps its value', async () => {
  const kit = await startKit({ app: 'sessions.ts', env: { NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  const { status, headers } = await request(port, '/set?field=large&bytes=3000');
  assert.deepEqual([status, headers['set-cookie']], [500, undefined]);
  const { error } = await kit.event('test.failed');
  assert.match(
    String(error),
    /^a session without Redis must fit into a cookie, 3800 bytes with base64, got 4\d\d\d: keep less in it, or set REDIS_URL$/,
  );
  assert.equal((await request(port, '/set?field=small&bytes=2000')).status, 200);
});

test('without a trusted proxy no header makes a plain connection count as secure', async () => {
  const kit = await startKit({ app: 'sessions.ts', env: { NODE_CLUSTER_WORKERS: '1' } });
  const { port } = await kit.ready();
  const { status, headers } = await request(port, '/increment', { headers: { 'X-Forwarded-Proto': 'https' } });
  assert.equal(status, 200);
  assert.doesNotMatch(String(headers['set-cookie']), /secure|__Host-/i);
});
