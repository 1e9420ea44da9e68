/**
 * The text of the app: errors and paths may contain secrets. The operator finds them in the log and through `bosun`; anyone who can only reach the
 * admin port or read Redis does not.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { until } from '../until.ts';
import { RawClient, request, requestText } from './clients.ts';
import type { Kit } from './kit.ts';
import { assertDescribed } from './openapi-answers.ts';
import { postControl, startOperated, temporaryFolder } from './operator.ts';
import { LocalRedis, withRedis } from './redis.ts';
import { writtenApp } from './written-app.ts';

const PASSWORD = 'postgres://u:p@h';
const APP = `
  return (req, res) => {
    if (req.url === '/crash') setTimeout(() => { throw Object.assign(new TypeError('no answer of ${PASSWORD}'), { code: 'ECONNREFUSED' }); });
    else if (req.url === '/') res.end('{}');
    else console.log(JSON.stringify({ event: 'test.begun', mark: 'reset' }));
  };`;
const SECRETS = /u:p@h|RESETTOKEN/;
/** The class and code of the error, its file and line, and the fingerprint of its message. */
const OPEN = /TypeError ECONNREFUSED at \S+app\.mjs:\d+, message (#[0-9a-f]{8})/;

/** A worker whose drain waits for a request and cuts it, then one that crashes. */
async function misfortune(kit: Kit, port: number, control: string): Promise<{ waiting: string }> {
  const client = await RawClient.open(port);
  client.write(requestText('/reset/RESETTOKEN'));
  await kit.begun('reset');
  const restarted = postControl(control, '/restart', '{}');
  await kit.event('drain.waiting');
  const waiting = JSON.stringify(await kit.statusWhere(({ workers }) => workers.some(worker => 'waitingFor' in worker)));
  assertDescribed('/status', { status: 200, headers: { 'content-type': 'application/json' }, body: waiting });
  await restarted;
  (await RawClient.open(port)).write(requestText('/crash'));
  await kit.event('worker.exit', ({ reason }) => reason === 'crash');
  return { waiting };
}

/** Everything that a client without a token gets from `port` from now on, as one text. */
function overhear(port: number, request: string): () => string {
  let received = '';
  const socket = connect(port, '127.0.0.1', () => socket.write(request));
  socket.setEncoding('utf8').on('data', chunk => {
    received += chunk;
  });
  after(() => socket.destroy());
  return () => received;
}

test(
  'text of errors and request paths is in the log and on the control socket, but not on the open admin port',
  withRedis,
  async () => {
    const redis = await LocalRedis.start();
    after(() => redis.stop());
    const { kit, port, socket } = await startOperated({
      env: { APP_MODULE: writtenApp(APP), REDIS_URL: redis.url, SHUTDOWN_TIMEOUT_MS: '4000' },
    });
    const events = overhear(kit.adminPort, requestText('/events'));
    const published = overhear(redis.port, 'PSUBSCRIBE *\r\n');
    const { waiting } = await misfortune(kit, port, socket);
    await kit.statusWhere(({ workers }) => workers.length === 2);

    const paths = ['/status', '/metrics', '/', '/readyz', '/startupz', '/livez', '/nothing'];
    const bodies = await Promise.all(paths.map(async path => JSON.stringify(await kit.probe(path))));
    const later = overhear(kit.adminPort, requestText('/events'));
    await kit.statusWhere(() => OPEN.test(later()) && OPEN.test(events()));
    for (const text of [waiting, ...bodies, events(), later(), published()]) assert.doesNotMatch(text, SECRETS);
    assert.match(published(), /message/);

    const { drains } = await kit.status();
    const { last } = drains as unknown as { last: { cut: object[] } };
    assert.deepEqual(last.cut.map(Object.keys), [['method', 'ageMs', 'bytesSent']]);
    const exit = await kit.event('worker.exit', ({ reason }) => reason === 'crash');
    assert.match(String(exit.failure), SECRETS);
    assert.equal(exit.fingerprint, OPEN.exec(events())?.[1], 'the log leads from the fingerprint to the message');
    const watched = await postControl(socket, '/watch', '{}');
    assert.match(watched.body, /is gone \(crash: no answer of postgres:\/\/u:p@h\)/);
    assert.match(watched.body, /"path":"\/crash"/);
    assert.ok(kit.all('request.cut').some(({ path }) => path === '/reset/RESETTOKEN'));
  },
);

test('with ADMIN_TOKEN the admin port shows text of the app to clients with the token, also after the token has changed', async () => {
  const tokenFile = join(temporaryFolder(), 'token');
  writeFileSync(tokenFile, 'first\n');
  const { kit, port, socket } = await startOperated({
    env: { APP_MODULE: writtenApp(APP), ADMIN_TOKEN_FILE: tokenFile },
  });
  const requested = (path: string, token: string) =>
    request(kit.adminPort, path, { headers: { Authorization: `Bearer ${token}` } });
  for (const path of ['/status', '/metrics', '/events', '/', '/nothing']) assert.equal((await kit.probe(path)).status, 401, path);
  for (const path of ['/livez', '/readyz', '/startupz']) assert.equal((await kit.probe(path)).status, 200, path);
  const bearer = { headers: { Authorization: 'Bearer first' } };
  const events = overhear(kit.adminPort, requestText('/events', bearer));
  (await RawClient.open(port)).write(requestText('/crash'));
  await until(
    () => SECRETS.test(events()) || undefined,
    () => events().slice(-500),
  );
  assert.equal((await requested('/status', 'first')).status, 200);

  writeFileSync(tokenFile, 'second');
  await postControl(socket, '/restart', '{}');
  assert.equal((await requested('/status', 'first')).status, 401);
  assert.equal((await requested('/status', 'second')).status, 200);
  assert.doesNotMatch(kit.transcript(), /first|second/);
});
