/**
 * Secrets in a running pod: an invalid one changes nothing, and none is ever printed, even if Redis quotes it.
 */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FakeRedis } from '../fake-redis.ts';
import { until } from '../until.ts';
import { readyPids } from './capacity.ts';
import { RawClient, request, requestText } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { bosun, temporaryFolder } from './operator.ts';

const CANARY = `c4n#ry "%' ü@/`;

/** Like a Redis without HELLO and AUTH: it quotes unknown commands. */
const quoting = ([name = '', ...args]: readonly string[]) =>
  /^(hello|auth)$/i.test(name)
    ? `-ERR unknown command \`${name}\`, with args beginning with: ${args.map(arg => `\`${arg}\` `).join('')}\r\n`
    : undefined;

/** Every form in which the secret might be printed. */
const FORMS = [CANARY, encodeURIComponent(CANARY), JSON.stringify(CANARY).slice(1, -1), 'c4n'];
const assertHidden = (output: string) => {
  for (const form of FORMS)
    assert.ok(!output.includes(form), `${form} in ${output.slice(Math.max(0, output.indexOf(form) - 300))}`);
};

test('a REDIS_URL with a raw % exits with 78 and one line that names the problem, without a stack', async () => {
  const kit = await startKit({ app: 'koa.mjs', env: { REDIS_URL: 'redis://:c4n%ry@127.0.0.1:1' } });
  assert.deepEqual(await kit.exit(), { code: 78, signal: null });
  assert.deepEqual(kit.stderr.split('\n'), [
    'bad configuration:',
    '  REDIS_URL must be a URL with each % in user and password written as %25, and other escapes in UTF-8, got a value that is not (hidden: it is a secret) (environment)',
    '',
  ]);
});

test('a bad secret file changes nothing at SIGHUP or for later workers, and no output shows a secret', async () => {
  const redis = await FakeRedis.start(quoting);
  const { host } = new URL(redis.url);
  const file = join(temporaryFolder(), 'url');
  // Atomically, as a platform does it.
  const write = (text: string) => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };
  write(`\uFEFFredis://:${encodeURIComponent(CANARY)}@${host}\r\n`);
  const socket = join(temporaryFolder(), 'control.sock');
  const env = {
    CONTROL_SOCKET: socket,
    REDIS_URL_FILE: file,
    SESSION_KEYS: CANARY,
    REDIS_PASSWORD: CANARY,
    DEBUG: 'ioredis:*',
    LOG_LEVEL: 'trace',
  };
  const kit = await startKit({ app: 'prints-config.ts', env });
  // It knows no AUTH and quotes the password in its error, which must be hidden.
  await until(
    () => /unknown command `AUTH`, with args beginning with: `\[hidden\]`/i.test(kit.transcript()) || undefined,
    () => kit.transcript(),
  );
  redis.lie = () => undefined;
  const { port } = await kit.ready();
  const [first = 0] = await readyPids(kit);

  write('redis://:c4n%ry@127.0.0.1:1');
  kit.signal('SIGHUP');
  const { problems } = await kit.event('reload.refused');
  assert.match(String(problems), /^REDIS_URL must be .* \(hidden: it is a secret\) \(\/.*\/url\)$/);
  process.kill(first, 'SIGKILL');
  await until(
    async () => (await readyPids(kit)).filter(pid => pid !== first).length === 2 || undefined,
    () => kit.transcript(),
  );
  assert.equal((await request(port, '/increment')).status, 200);
  await using events = await RawClient.open(kit.adminPort);
  events.write(requestText('/events'));
  await bosun(socket, ['broadcast', 'test.crash']);
  await events.received(/crash/);

  const shown = await Promise.all([
    ...['/status', '/metrics', '/readyz', '/'].map(async path => (await kit.probe(path)).body),
    ...['status', 'doctor', 'fleet', 'errors'].map(async command => JSON.stringify(await bosun(socket, [command, '--json']))),
  ]);
  assert.deepEqual(await kit.stop(), CLEAN);
  assert.match(kit.transcript(), /test\.printed[\s\S]*test\.crashed/);
  assertHidden([...shown, events.unread, kit.transcript()].join('\n'));
});
