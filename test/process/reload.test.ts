/**
 * A rolling restart reads `.env` and the secret files again.
 */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { readyPids } from './capacity.ts';
import { request } from './clients.ts';
import { startOperated, temporaryFolder } from './operator.ts';

/** Most of a test is waiting. */
const CONCURRENCY = 4;

describe('a rolling restart reads the settings again', { concurrency: CONCURRENCY }, () => {
  test('a rolling restart reads .env again and refuses malformed or fixed settings before it replaces a worker', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'app.mjs');
    writeFileSync(file, 'export default (req, res) => res.end(String(process.env.GREETING));');
    const port = await freePort();
    const dotenv = (...lines: string[]) => writeFileSync(join(folder, '.env'), [`PORT=${port}`, ...lines].join('\n'));
    dotenv('GREETING=hello');
    const { kit, bosun } = await startOperated({ env: { APP_MODULE: file, PORT: undefined }, cwd: folder });
    const greeting = async () => (await request(port, '/')).body;
    assert.equal(await greeting(), 'hello');

    dotenv('GREETING=ahoy');
    assert.equal((await bosun('restart')).code, 0);
    assert.equal(await greeting(), 'ahoy');

    const pids = await readyPids(kit);
    const refuses = async (lines: string[], problem: RegExp) => {
      dotenv('GREETING=never', ...lines);
      const { code, stdout, stderr } = await bosun('restart');
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, problem);
      kit.signal('SIGHUP');
      const refused = kit.all('reload.refused').length;
      await until(
        () => kit.all('reload.refused').length > refused || undefined,
        () => kit.transcript(),
      );
      assert.match(String(kit.all('reload.refused').at(-1)?.problems), problem);
      assert.deepEqual(await readyPids(kit), pids);
      assert.equal(await greeting(), 'ahoy');
    };
    await refuses(
      ['WORKER_MAX_AGE_MS=never'],
      /WORKER_MAX_AGE_MS must be a whole number of milliseconds .*got "never" \(\.env\)/,
    );
    await refuses([`PORT=${port + 1}`], /PORT cannot change at run time; restart the primary/);
    await refuses(['NODE_CLUSTER_SCHED_POLICY=none'], /NODE_CLUSTER_SCHED_POLICY cannot change at run time/);
    assert.equal(kit.all('pool.restart').length, 1);

    dotenv();
    const { code, stdout } = await bosun('restart');
    assert.equal(code, 0);
    assert.match(stdout, /^starting worker \d/, 'no other restart is running, and none is reported');
    assert.equal(await greeting(), 'undefined');
    rmSync(join(folder, '.env'));
    const { code: withoutPort, stderr } = await bosun('restart');
    assert.equal(withoutPort, 1);
    assert.match(stderr, /PORT cannot change/);
  });

  test('a rolling restart reads secret files again: sessions survive if their key is kept, and end without it', async () => {
    const file = join(temporaryFolder(), 'keys');
    const setKeys = (keys: string) => writeFileSync(file, `${keys}\n`);
    setKeys('first-key');
    const env = { SESSION_KEYS_FILE: file, NODE_CLUSTER_WORKERS: '1', PORT: String(await freePort()) };
    const { port, bosun } = await startOperated({ app: 'slow-session.mjs', env });
    const first = new Visitor();
    await first.request(port, '/');
    // Always with the cookie of the first response.
    const count = async () => JSON.parse((await new Visitor(first.cookies).request(port, '/')).body).count;
    assert.equal(await count(), 2);
    for (const [keys, expected] of [
      ['second-key,first-key', 2],
      ['second-key', 1],
    ] as const) {
      setKeys(keys);
      const { code, stderr } = await bosun('restart');
      assert.equal(code, 0, stderr);
      assert.equal(await count(), expected, `with the keys ${keys}`);
    }
  });

  test('a rolling restart applies worker limits newly added to .env', async () => {
    const folder = temporaryFolder();
    const { kit, bosun } = await startOperated({ app: 'koa.mjs', cwd: folder });
    writeFileSync(join(folder, '.env'), 'WORKER_MAX_AGE_MS=1500');
    assert.equal((await bosun('restart')).code, 0);
    await kit.event('worker.exit', ({ reason }) => reason === 'recycled-age');
  });
});
