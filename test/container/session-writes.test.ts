/**
 * What becomes of a session when requests write it at the same time, when it is too large, when Redis is full, when its key is replaced.
 * The kits run on this machine: it is their Redis that matters here.
 */
import assert from 'node:assert/strict';
import { type TestOptions, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { KitOptions } from '../process/kit.ts';
import { type Operated, startOperated } from '../process/operator.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { withEngine } from './engine.ts';
import { Redis } from './redis.ts';

const TOMBSTONE = 'destroyed';
const PARALLEL = 20;

test('sessions in Redis', { ...withEngine, concurrency: 3 }, async t => {
  const redis = await Redis.start(undefined);
  const cases: Promise<void>[] = [];
  const promise = (name: string, run: () => Promise<void>, options: TestOptions = {}) =>
    void cases.push(t.test(name, options, run));

  async function startPod(env: Record<string, string>, options: KitOptions = {}): Promise<Operated> {
    return startOperated({ app: 'sessions.ts', ...options, env: { REDIS_URL: `redis://127.0.0.1:${redis.port}`, ...env } });
  }

  promise('of twenty concurrent increments SESSION_WRITES=last loses some, `versioned` none that it acknowledged', async () => {
    for (const [writes, cookie] of [
      ['last', 'plain'],
      ['versioned', 'versioned'],
    ] as const) {
      const { kit, port } = await startPod({ SESSION_WRITES: writes, SESSION_COOKIE: cookie });
      const visitor = new Visitor();
      assert.equal((await visitor.request(port, '/set?field=user')).status, 200);
      const answers = await Promise.all(
        Array.from({ length: PARALLEL }, () => new Visitor(visitor.cookies).request(port, '/increment?ms=200')),
      );
      const acknowledged = answers.filter(({ status }) => status === 200).length;
      const { counter } = JSON.parse((await visitor.request(port, '/read')).body) as { counter: number };
      if (writes === 'last') {
        assert.equal(acknowledged, PARALLEL);
        assert.ok(counter < PARALLEL, `${counter} of ${PARALLEL}`);
        continue;
      }
      assert.equal(counter, acknowledged);
      assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200, 409]));
      assert.equal(answers.find(({ status }) => status === 409)?.headers['retry-after'], '0');
      // A client that follows Retry-After succeeds.
      const refused = answers.filter(({ status }) => status === 409);
      await Promise.all(
        refused.map(() =>
          until(
            async () => ((await new Visitor(visitor.cookies).request(port, '/increment')).status === 200 ? true : undefined),
            () => kit.transcript(),
          ),
        ),
      );
      assert.equal(JSON.parse((await visitor.request(port, '/read')).body).counter, PARALLEL);
    }
  });

  promise('SESSION_WRITES=versioned keeps fifty concurrent writes of different fields and refuses none', async () => {
    const pods = await Promise.all([1, 2].map(() => startPod({ SESSION_WRITES: 'versioned', SESSION_COOKIE: 'fields' })));
    const visitor = new Visitor();
    await visitor.request(pods[0]?.port ?? 0, '/set?field=user');
    const fields = Array.from({ length: 50 }, (_, index) => `field${index}`);
    const all = fields.map((field, index) =>
      new Visitor(visitor.cookies).request(pods[index % 2]?.port ?? 0, `/set?ms=300&field=${field}`),
    );
    for (const { status, body } of await Promise.all(all)) assert.equal(status, 200, body);
    const session = JSON.parse((await visitor.request(pods[0]?.port ?? 0, '/read')).body) as Record<string, string>;
    assert.deepEqual(Object.keys(session).sort(), [...fields, 'user'].sort());
  });

  for (const writes of ['last', 'versioned']) {
    promise(`with SESSION_WRITES=${writes} a request may write its session more than once`, async () => {
      const { port } = await startPod({ SESSION_WRITES: writes, SESSION_COOKIE: `twice-${writes}` });
      const visitor = new Visitor();
      for (const path of ['/increment', '/login', '/twice', '/login']) {
        const thief = new Visitor(visitor.cookies);
        const { status, body } = await visitor.request(port, path);
        assert.equal(status, 200, `${path}: ${body}`);
        if (path === '/login')
          assert.equal((await thief.request(port, '/read')).body, '{}', 'the id before the login is worth nothing');
      }
      assert.deepEqual(JSON.parse((await visitor.request(port, '/read')).body), { counter: 'second', user: 'captain' });
    });

    promise(`with SESSION_WRITES=${writes} a request in flight during a logout does not restore the session`, async () => {
      const cookie = `logout-${writes}`;
      const { kit, port } = await startPod({ SESSION_WRITES: writes, SESSION_COOKIE: cookie });
      const visitor = new Visitor();
      await visitor.request(port, '/increment');
      const thief = new Visitor(visitor.cookies);
      const id = visitor.cookies.get(cookie);
      const late = new Visitor(visitor.cookies).request(port, '/increment?ms=500');
      await kit.event('test.read', ({ before }) => before === 1);
      assert.equal((await visitor.request(port, '/logout')).status, 200);
      assert.equal((await late).status, 200);
      assert.equal(await redis.command('GET', `koa-bosun:${cookie}:${id}`), TOMBSTONE);
      const ttl = Number(await redis.command('TTL', `koa-bosun:${cookie}:${id}`));
      assert.ok(ttl > 3500 && ttl <= 3600, String(ttl));
      assert.equal(JSON.parse((await thief.request(port, '/increment')).body).counter, 1);
      assert.notEqual(thief.cookies.get(cookie), id);
    });
  }

  promise('a session that is too large is an error that names its largest field, and the stored session is kept', async () => {
    const { kit, port } = await startPod({ SESSION_COOKIE: 'large' });
    const visitor = new Visitor();
    assert.equal((await visitor.request(port, '/set?field=fits&bytes=15000')).status, 200);
    assert.equal((await visitor.request(port, '/set?field=more&bytes=2000')).status, 500);
    const { error } = await kit.event('test.failed');
    assert.match(
      String(error),
      /^a session must be at most 16384 bytes of JSON \(SESSION_MAX_BYTES\), got 17\d\d\d; the largest field is "fits" with 15002$/,
    );
    const session = JSON.parse((await visitor.request(port, '/read')).body) as Record<string, string>;
    assert.deepEqual([session.fits?.length, session.more], [15000, undefined]);
  });

  promise('bosun keys rotate makes every pod sign with the new key, logs nobody out, and shows no key', async () => {
    const pods = await Promise.all([startPod({ SESSION_COOKIE: 'rotated' }), startPod({ SESSION_COOKIE: 'rotated' })]);
    const [one, other] = pods as [Operated, Operated];
    const sleeper = new Visitor();
    await sleeper.request(one.port, '/increment');
    const before = await redis.command('GET', 'koa-bosun:rotated:keys');
    const visitor = new Visitor();
    let visits = 0;
    const rotation = one.start('keys', 'rotate');
    let isRotating = true;
    void rotation.ended.then(() => {
      isRotating = false;
    });
    while (isRotating) {
      for (const { port } of pods) {
        const { counter } = JSON.parse((await visitor.request(port, '/increment')).body) as { counter: number };
        assert.equal(counter, ++visits);
      }
    }
    const { code, stdout, stderr } = await rotation.ended;
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal(stdout, 'every worker verifies with the new key\nevery worker signs with it; 1 older one verifies\n');
    const keys = (await redis.command('GET', 'koa-bosun:rotated:keys')).split(',');
    assert.equal(keys.length, 2);
    assert.equal(keys[1], before);
    const signature = sleeper.cookies.get('rotated.sig');
    assert.equal(JSON.parse((await sleeper.request(other.port, '/increment')).body).counter, 2, 'signed with the old key');
    assert.notEqual(sleeper.cookies.get('rotated.sig'), signature, 'signed again');
    for (const { kit } of pods) {
      const shown = kit.transcript() + JSON.stringify(await kit.status()) + (await kit.probe('/metrics')).body;
      for (const key of keys) assert.ok(!shown.includes(key));
    }
    const given = await startPod({ SESSION_COOKIE: 'given', SESSION_KEYS: 'a key of the operator' });
    const refused = await given.bosun('keys', 'rotate');
    assert.deepEqual([refused.code, refused.stdout], [1, '']);
    assert.match(refused.stderr, /^bosun: the session keys come from SESSION_KEYS: add the new one at its end/);
  });

  promise(
    'bosun keys rotate waits for every worker, so that none signs with a key that a frozen worker does not have',
    async () => {
      const [one, other] = await Promise.all([startPod({ SESSION_COOKIE: 'waiting' }), startPod({ SESSION_COOKIE: 'waiting' })]);
      const old = await redis.command('GET', 'koa-bosun:waiting:keys');
      const { workerPid } = await other.kit.event('worker.ready');
      process.kill(Number(workerPid), 'SIGSTOP');
      const rotation = one.start('keys', 'rotate');
      const keys = async () => (await redis.command('GET', 'koa-bosun:waiting:keys')).split(',');
      await until(
        async () => (await keys()).length === 2 || undefined,
        () => one.kit.transcript(),
      );
      // Longer than the event takes to be said again.
      await pause(4000);
      assert.deepEqual([(await keys())[0], rotation.stdout], [old, '']);
      process.kill(Number(workerPid), 'SIGCONT');
      const { code, stdout, stderr } = await rotation.ended;
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(stdout, /^every worker verifies with the new key\nevery worker signs with it/);
      assert.equal((await keys())[1], old);
    },
  );

  promise('a pod whose primary was disconnected during a key rotation uses the new keys when it reconnects', async () => {
    // In a database of its own: its connections can be distinguished from the other pods'.
    const env = { SESSION_COOKIE: 'apart', NODE_CLUSTER_WORKERS: '1', REDIS_URL: `redis://127.0.0.1:${redis.port}/5` };
    const { kit, port } = await startPod(env);
    const visitor = new Visitor();
    await visitor.request(port, '/increment');
    const signature = visitor.cookies.get('apart.sig');
    const old = await redis.command('-n', '5', 'GET', 'koa-bosun:apart:keys');
    // As a rotation does it while this pod is disconnected.
    await redis.command('-n', '5', 'SET', 'koa-bosun:apart:keys', `a-newer-key,${old}`);
    await visitor.request(port, '/increment');
    assert.equal(visitor.cookies.get('apart.sig'), signature);
    const clients = (await redis.command('CLIENT', 'LIST')).split('\n').filter(client => client.includes(' db=5 '));
    const ids = clients.flatMap(client => /^id=(\d+) .* name=bosun:\S+:(?:primary|subscriber) /.exec(client)?.[1] ?? []);
    assert.equal(ids.length, 2, clients.join('\n'));
    for (const id of ids) await redis.command('CLIENT', 'KILL', 'ID', id);
    await until(
      async () => {
        await visitor.request(port, '/increment');
        return visitor.cookies.get('apart.sig') !== signature || undefined;
      },
      () => kit.transcript(),
    );
    assert.equal(kit.all('redis.ready').filter(({ worker }) => worker === 1).length, 1);
    assert.ok(JSON.parse((await visitor.request(port, '/read')).body).counter > 2, 'nobody was logged out');
  });

  promise('an unused session expires, and one in use is renewed in its second half', async () => {
    const { port } = await startPod({ SESSION_COOKIE: 'short', SESSION_TTL_SECONDS: '4' });
    const [used, unused] = [new Visitor(), new Visitor()];
    for (const visitor of [used, unused]) await visitor.request(port, '/increment');
    const id = used.cookies.get('short');
    const startedAt = performance.now();
    // Every half second for six: reads only, and the session outlives its four.
    await until(
      async () => {
        assert.equal(JSON.parse((await used.request(port, '/read')).body).counter, 1);
        return performance.now() - startedAt > 6000 || undefined;
      },
      () => 'never',
    );
    assert.equal(used.cookies.get('short'), id);
    assert.equal(JSON.parse((await unused.request(port, '/increment')).body).counter, 1);
  });

  await Promise.all(cases);
});
