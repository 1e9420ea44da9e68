/**
 * `kit.health` with a real database that stops and freezes: a Redis that only the app knows.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { until } from '../until.ts';
import { request } from './clients.ts';
import { startOperated } from './operator.ts';
import { LocalRedis, withRedis } from './redis.ts';

const SECRET = /hunter2/;

interface Check {
  state: string;
  isUnready: boolean;
  workers: number;
  failing: number;
  message?: string;
}

test('the health checks of an app whose database stops', withRedis, async t => {
  const database = await LocalRedis.start();
  after(() => database.stop());
  await database.stop();
  const operated = await startOperated({ app: 'health.mjs', env: { DATABASE_URL: database.url } });
  const { kit } = operated;
  const { port } = await kit.ready();
  const readyz = async (status: number, body: RegExp) =>
    until(
      async () => {
        const answer = await kit.probe('/readyz');
        return answer.status === status && body.test(answer.body) ? answer : undefined;
      },
      () => `no ${status} ${body}; ${kit.transcript()}`,
    );
  /** Everything that is open to anyone. */
  const open = async () =>
    (await Promise.all(['/readyz', '/status', '/metrics'].map(path => kit.probe(path)))).map(({ body }) => body).join();

  await t.test('a pod that starts without its database has started, serves, and is not ready', async () => {
    await readyz(503, /check database: \w+ .*in 2 of 2 workers, \d+ times in a row/);
    assert.equal((await kit.probe('/startupz')).status, 200);
    assert.equal((await request(port, '/')).status, 200);
    const doctor = await operated.bosun('doctor');
    assert.match(doctor.stdout, /problem +health checks +database fails in 2 of 2 workers.*the pod is not ready because of it/);
    assert.equal(doctor.code, 1);
  });

  await t.test('with the first success it is ready', async () => {
    await database.startAgain();
    await kit.event('health.ready', ({ check }) => check === 'database');
    await readyz(200, /^\{"status":"ok"\}$/);
    await kit.statusWhere(({ health }) => (health as Record<string, Check>).database?.state === 'ok');
    assert.match((await kit.probe('/metrics')).body, /bosun_health_check_failing\{check="database"\} 0\n/);
    assert.match(
      (await operated.bosun('status')).stdout,
      /check database passes in 2 workers, \d+ ms\ncheck queue passes in 2 workers/,
    );
  });

  await t.test('a failing check without readiness is shown everywhere, without text of the app where that is open', async () => {
    await request(port, '/queue?to=throw');
    await readyz(200, /check queue: Error EQUEUE at .*health\.mjs:\d+ in 2 of 2 workers/);
    const shown = await open();
    assert.doesNotMatch(shown, SECRET);
    assert.match(shown, /bosun_health_check_failing\{check="queue"\} 2\n/);
    const { stdout } = await operated.bosun('status');
    assert.match(stdout, /check queue fails in 2 of 2 workers.*: Error EQUEUE at .*: queue refused shop:hunter2\?\[2J\n/);
    assert.match(String((await kit.event('health.failing', ({ check }) => check === 'queue')).error), SECRET);
    assert.match((await operated.bosun('doctor')).stdout, /warning +health checks +queue fails/);
    await request(port, '/queue?to=pass');
    await kit.event('health.passing', ({ check }) => check === 'queue');
  });

  await t.test('while the database is frozen the pod serves and is not ready, even if its workers are replaced', async () => {
    database.freeze();
    await readyz(503, /check database: timed out after \d+ ms in 2 of 2 workers, \d+ times in a row/);
    assert.equal((await request(port, '/')).status, 200);
    const statuses = new Set<number>();
    let isOver = false;
    const watching = (async () => {
      while (!isOver) statuses.add((await kit.probe('/readyz')).status);
    })();
    for (const { pid } of (await kit.status()).workers) {
      process.kill(pid, 'SIGKILL');
      await kit.event('worker.exit', ({ workerPid }) => workerPid === pid);
      await kit.statusWhere(({ workers }) => workers.every(({ state }) => state === 'ready'));
    }
    isOver = true;
    await watching;
    assert.deepEqual([...statuses], [503]);
    assert.match((await operated.bosun('status')).stdout, /, not ready, running for \d+ s \(check database: /);
    database.thaw();
    await readyz(200, /./);
    assert.equal((await request(port, '/rows')).body, 'PONG');
  });

  await t.test('no check overlaps itself, and none runs during the drain', async () => {
    const slow = request(port, '/slow');
    await kit.event('test.slow');
    assert.equal((await kit.stop()).code, 0);
    assert.equal((await slow).status, 200);
    assert.deepEqual([kit.all('test.overlap'), kit.all('test.checked-at-the-drain')], [[], []]);
    const logged = (name: string) => kit.all(name).filter(({ check }) => check === 'database').length;
    assert.equal(logged('health.unready'), 2);
    assert.equal(logged('health.ready'), 2);
  });
});
