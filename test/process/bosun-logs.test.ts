/**
 * `bosun logs` as an operator uses it: what it prints of a running pool, of one that starts, and of one that ends.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { CLEAN, startKit } from './kit.ts';
import { bosun, postControl, Running, startOperated, temporaryFolder } from './operator.ts';
import { writtenApp } from './written-app.ts';

/** Of 1,000 bytes each: together more than the primary keeps, and more than a socket and a pipe hold. */
const FLOOD_LINES = 3000;

const APP = `return (req, res) => {
  const { pathname } = new URL(req.url, 'http://kit');
  if (pathname === '/flood') for (let count = 0; count < ${FLOOD_LINES}; count++) console.log('flood'.padEnd(999, '.'));
  else {
    kit.log.info({ event: 'test.logged', mark: pathname });
    console.log('printed %s', pathname);
    console.error('failed %s', pathname);
  }
  res.end(String(kit.workerId));
};`;

describe('bosun logs', { concurrency: 2 }, () => {
  test('bosun logs prints the lines of the kit and of the app, of all workers or of one, and follows them to the end of the pool', async () => {
    const { kit, port, socket, bosun, start } = await startOperated({ env: { APP_MODULE: writtenApp(APP) } });
    const { body: worker } = await request(port, '/first');
    const other = worker === '1' ? '2' : '1';
    await until(
      () => (/^printed \/first$/m.test(kit.stderr) && /^failed \/first$/m.test(kit.stderr)) || undefined, // output that is no JSON
      () => kit.transcript(),
    );
    const [all, own, last, others] = await Promise.all([
      bosun('logs'),
      bosun('logs', '--worker', worker),
      bosun('logs', '--worker', worker, '--lines', '3', '--json'),
      postControl(socket, '/logs', JSON.stringify({ worker: Number(other) })),
    ]);
    assert.deepEqual([all.code, all.stderr], [0, '']);
    const events = (text: string) => [...text.matchAll(/^\{.*"event":"([^"]+)"/gm)].map(([, event]) => event);
    const untilReady = (names: (string | undefined)[]) => names.slice(0, names.indexOf('pool.ready') + 1);
    assert.deepEqual(
      untilReady(events(all.stdout)),
      untilReady(kit.events.map(({ event }) => event)),
      'each line as the log has it',
    );
    assert.match(all.stdout, /^printed \/first$/m);
    assert.deepEqual(events(own.stdout).sort(), ['test.logged', 'worker.ready']);
    for (const line of [/^printed \/first$/m, /^failed \/first$/m]) assert.match(own.stdout, line);
    const parts = others.body
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    assert.deepEqual(parts.length, 2, 'what the primary says of it, and the result');
    assert.match(parts[0].log.text, /"event":"worker\.ready"/);

    const objects = last.stdout
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    assert.equal(objects.length, 3);
    const texts = objects.filter(({ text }) => text !== undefined);
    assert.deepEqual(
      new Set(texts.map(({ text, stream, worker }) => `${text} ${stream} ${worker}`)),
      new Set([`printed /first stdout ${worker}`, `failed /first stderr ${worker}`]),
    );
    for (const { time } of texts) assert.match(time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);

    const following = start('logs', '--follow', '--lines', '0');
    const slow = start('logs', '--follow', '--json');
    await slow.printed(/failed \/first/);
    slow.process.kill('SIGSTOP');
    await until(
      async () => {
        await request(port, '/again');
        return /printed \/again\n/.test(following.stdout) || undefined;
      },
      () => following.stderr,
    );
    assert.doesNotMatch(following.stdout, /\/first/);
    await request(port, '/flood');
    await until(
      () => kit.stderr.length > FLOOD_LINES * 1000 || undefined,
      () => `${kit.stderr.length} bytes were logged`,
    );
    assert.equal((await postControl(socket, '/status', '{}')).status, 200, 'a reader that has stopped keeps nothing up');
    slow.process.kill('SIGCONT');
    await slow.printed(/^\{"dropped":[1-9]\d*\}$/m);

    assert.deepEqual(await kit.stop(), CLEAN, 'while a reader is still behind');
    for (const follower of [following, slow]) {
      const { code, stdout } = await follower.ended;
      assert.equal(code, 0);
      assert.equal(JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '').event, 'primary.exit');
    }
  });

  test('bosun logs prints the log of a pool of which no worker has started, and refuses bad options', async () => {
    const socket = join(temporaryFolder(), 'control.sock');
    const env = { CONTROL_SOCKET: socket, APP_MODULE: writtenApp("console.log('loads'); await new Promise(() => {});") };
    const kit = await startKit({ env });
    await kit.event('control.listening');
    await until(
      async () => /^loads$/m.test((await bosun(socket, ['logs'])).stdout) || undefined,
      () => kit.transcript(),
    );
    for (const [option, value, message] of [
      ['--lines', '-1', '--lines must be a whole number of at least 0, got "-1"'],
      ['--worker', 'one', 'a worker is a whole number of at least 1, got "one"'],
    ] as const) {
      const { code, stderr } = await bosun(socket, ['logs', option, value]);
      assert.deepEqual([code, stderr], [64, `bosun: ${message}\n`]);
    }
    const unknown = await bosun(socket, ['logs', '--worker', '99']);
    assert.deepEqual([unknown.code, unknown.stderr], [1, 'bosun: there was no worker 99; there was 1, 2\n']);
    const following = new Running(['logs', '--follow', '--socket', socket]);
    await following.printed(/loads/);
    kit.process.kill('SIGKILL');
    const { code, stderr } = await following.ended;
    assert.deepEqual([code, stderr], [1, 'bosun: the primary ended before it answered\n']);
  });
});
