/**
 * What koa-session's own README promises holds over the kit's store, in a real Redis: rolling, renewing, expiring, destroying, keys of one's own.
 * Here it is mounted with options that `kit.session` does not set; whatever takes time is made old in Redis instead.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, type TestContext, test } from 'node:test';
import Koa from 'koa';
import koaSession from 'koa-session';
import { readConfig } from '../../src/config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from '../../src/state/redis.ts';
import { openSessionStore, type SessionStore } from '../../src/state/session-store.ts';
import { placesAt } from '../places.ts';
import { request } from '../process/clients.ts';
import { until } from '../until.ts';
import { Visitor } from '../visitor.ts';
import { withEngine } from './engine.ts';
import { Redis } from './redis.ts';

const COOKIE = 'koa:sess';
const DAY_S = 86_400;
/** koa-session lets the store outlive the cookie by it. */
const LONGER_S = 10;

interface Session {
  isNew: boolean;
  maxAge: number | 'session';
  readonly externalKey: string;
  visits?: number;
  save(): Promise<void>;
  manuallyCommit(): Promise<void>;
}
type Context = Koa.Context & { session: Session | null };
type Route = (session: Session, ctx: Context) => unknown;

const routes: Record<string, Route> = {
  '/read': () => undefined,
  '/visit': session => {
    session.visits = (session.visits ?? 0) + 1;
  },
  '/end': (_, ctx) => {
    ctx.session = null;
  },
  '/save': session => session.save(),
  '/commit': async session => {
    session.visits = 1;
    await session.manuallyCommit();
  },
  '/minute': session => {
    session.visits = 1;
    session.maxAge = 60_000;
  },
  '/browser': session => {
    session.visits = 1;
    session.maxAge = 'session';
  },
};

type Options = Parameters<typeof koaSession>[0] & object;

/** An app with a session on every route; the session events that the app receives. */
async function serve(store: SessionStore, options: Options = {}) {
  const app = new Koa();
  app.silent = true;
  app.keys = ['a key'];
  const reported: string[] = [];
  for (const event of ['missed', 'expired', 'invalid']) app.on(`session:${event}`, () => reported.push(event));
  app.use(koaSession({ key: COOKIE, maxAge: DAY_S * 1000, store, ...options }, app));
  app.use(async context => {
    const ctx = context as Context;
    const { session } = ctx;
    assert.ok(session);
    await routes[ctx.path]?.(session, ctx);
    const { isNew, visits = 0, maxAge, externalKey } = session;
    ctx.body = { isNew, visits, maxAge, externalKey };
  });
  const server = app.listen(0, '127.0.0.1');
  after(() => server.close());
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, reported };
}

interface Read extends Pick<Session, 'isNew' | 'maxAge' | 'externalKey'> {
  visits: number;
  setCookie: string;
}

async function look(visitor: Visitor, port: number, path: string): Promise<Read> {
  const { status, body, headers } = await visitor.request(port, path);
  assert.equal(status, 200, body);
  return { ...(JSON.parse(body) as Read), setCookie: headers['set-cookie'] ?? '' };
}

test('koa-session over the store', { ...withEngine, concurrency: true }, async t => {
  const redis = await Redis.start(undefined);
  const modes = ['last', 'versioned'].map(writes =>
    t.test(`SESSION_WRITES=${writes}`, { concurrency: true }, modeTest => holdsWith(writes, redis, modeTest)),
  );
  await Promise.all(modes);
});

async function holdsWith(writes: string, redis: Redis, t: TestContext): Promise<void> {
  const { store, client } = await open(redis, writes);
  const idOf = (visitor: Visitor) => visitor.cookies.get(COOKIE) ?? '';
  const keyOf = (visitor: Visitor) => `${COOKIE}:${idOf(visitor)}`;
  const ttlOf = async (visitor: Visitor) => client.ttl(keyOf(visitor));
  /** As if it had been written so that it expires in `ms`. */
  const age = async (visitor: Visitor, ms: number) => {
    const session = JSON.parse((await client.get(keyOf(visitor))) ?? '') as object;
    await client.set(keyOf(visitor), JSON.stringify({ ...session, _expire: Date.now() + ms }), 'EX', 5);
  };
  const assertFresh = async (visitor: Visitor, ttlS = DAY_S) => {
    const ttl = await ttlOf(visitor);
    assert.ok(ttl > ttlS - 60 && ttl <= ttlS + LONGER_S, `${ttl} s`);
  };
  const cases: Promise<void>[] = [];
  const promise = (name: string, run: () => Promise<void>) => void cases.push(t.test(name, run));

  promise('koa-session stores no empty session unless save() is called, and isNew marks new ones', async () => {
    const { port } = await serve(store);
    const visitor = new Visitor();
    assert.deepEqual([(await look(visitor, port, '/read')).setCookie, visitor.cookies.size], ['', 0]);
    assert.equal((await look(visitor, port, '/save')).isNew, true);
    await assertFresh(visitor);
    assert.equal((await look(visitor, port, '/read')).isNew, false);
  });

  promise(
    'with `rolling` every response sets the cookie, and the TTL in the store starts again; without it neither happens',
    async () => {
      for (const rolling of [true, false]) {
        const { port } = await serve(store, { rolling });
        const visitor = new Visitor();
        await look(visitor, port, '/visit');
        const id = idOf(visitor);
        await client.expire(keyOf(visitor), 5);
        const { setCookie } = await look(visitor, port, '/read');
        assert.equal(setCookie.includes(`${COOKIE}=${id};`), rolling);
        if (rolling) await assertFresh(visitor);
        else assert.ok((await ttlOf(visitor)) <= 5);
      }
    },
  );

  promise('with `renew` the cookie and the TTL in the store are renewed in their second half, not before', async () => {
    const { port } = await serve(store, { renew: true });
    const visitor = new Visitor();
    await look(visitor, port, '/visit');
    const id = idOf(visitor);
    await age(visitor, (DAY_S * 1000) / 2 + 60_000);
    assert.equal((await look(visitor, port, '/read')).setCookie, '');
    await age(visitor, (DAY_S * 1000) / 2 - 60_000);
    const { setCookie, visits } = await look(visitor, port, '/read');
    assert.deepEqual([setCookie.includes(`${COOKIE}=${id};`), visits], [true, 1]);
    await assertFresh(visitor);
  });

  promise(
    'a session that has expired, is missed or invalid is reported to the app, and a new one begins with another id',
    async () => {
      const { port, reported } = await serve(store, { valid: (_: unknown, { visits }: { visits?: number }) => visits !== 2 });
      const spoil: Record<string, (visitor: Visitor) => Promise<unknown>> = {
        expired: visitor => age(visitor, -1),
        missed: visitor => client.del(keyOf(visitor)),
        invalid: visitor => look(visitor, port, '/visit'),
      };
      for (const [event, run] of Object.entries(spoil)) {
        const visitor = new Visitor();
        await look(visitor, port, '/visit');
        const id = idOf(visitor);
        await run(visitor);
        const { isNew, visits } = await look(visitor, port, '/visit');
        assert.deepEqual([isNew, visits], [true, 1], event);
        assert.notEqual(idOf(visitor), id);
        await until(
          () => reported.at(-1) === event || undefined,
          () => `${event} expected, received ${reported}`,
        );
      }
      assert.equal(reported.length, 3);
    },
  );

  promise('a destroyed session clears its cookie, and its id is no longer valid', async () => {
    const { port, reported } = await serve(store);
    const visitor = new Visitor();
    await look(visitor, port, '/visit');
    const thief = new Visitor(visitor.cookies);
    assert.match((await look(visitor, port, '/end')).setCookie, new RegExp(`^${COOKIE}=; path=/; expires=Thu, 01 Jan 1970`));
    assert.equal(visitor.cookies.size, 0);
    const id = idOf(thief);
    assert.deepEqual([(await look(thief, port, '/visit')).isNew, reported], [true, ['missed']]);
    assert.notEqual(idOf(thief), id);
  });

  promise('externalKey replaces the cookie, and genid and prefix make the session ids', async () => {
    const externalKey = {
      get: (ctx: Koa.Context) => ctx.get('x-session'),
      set: (ctx: Koa.Context, id: string) => ctx.set('x-session', id),
    };
    const { port } = await serve(store, { externalKey, prefix: `ours-${writes}-` });
    const first = await request(port, '/visit');
    const id = first.headers['x-session'] ?? '';
    assert.match(id, new RegExp(`^ours-${writes}-[\\w-]{36}$`));
    assert.equal(first.headers['set-cookie'], undefined);
    assert.equal(await client.exists(`${COOKIE}:${id}`), 1);
    const withKey = { headers: { 'X-Session': id } };
    const { body } = await request(port, '/visit', withKey);
    assert.deepEqual(JSON.parse(body), { isNew: false, visits: 2, maxAge: DAY_S * 1000, externalKey: id });
    await request(port, '/end', withKey);
    assert.equal(JSON.parse((await request(port, '/read', withKey)).body).isNew, true);

    const named = await serve(store, { genid: () => `named-${writes}` });
    const visitor = new Visitor();
    await look(visitor, named.port, '/visit');
    assert.equal(idOf(visitor), `named-${writes}`);
  });

  promise(
    'a maxAge set on the session applies to cookie and store and is kept; "session" lasts until the browser closes',
    async () => {
      const { port } = await serve(store);
      const visitor = new Visitor();
      const { setCookie } = await look(visitor, port, '/minute');
      const expires = Date.parse(/expires=([^;]+)/.exec(setCookie)?.[1] ?? '');
      assert.ok(Math.abs(expires - Date.now() - 60_000) < 30_000, setCookie);
      await assertFresh(visitor, 60);
      const { maxAge, visits } = await look(visitor, port, '/visit');
      assert.deepEqual([maxAge, visits], [60_000, 2]);

      const browser = new Visitor();
      assert.doesNotMatch((await look(browser, port, '/browser')).setCookie, /expires/);
      await assertFresh(browser);
      const again = await look(browser, port, '/visit');
      assert.deepEqual([again.maxAge, again.visits, /expires/.test(again.setCookie)], ['session', 2, false]);
    },
  );

  promise('without autoCommit only manuallyCommit() writes the session', async () => {
    const { port } = await serve(store, { autoCommit: false });
    const visitor = new Visitor();
    assert.equal((await look(visitor, port, '/visit')).setCookie, '');
    await look(visitor, port, '/commit');
    assert.deepEqual((await look(visitor, port, '/read')).visits, 1);
  });

  await Promise.all(cases);
}

async function open({ port }: Redis, writes: string): Promise<{ store: SessionStore; client: RedisClient }> {
  const url = `redis://127.0.0.1:${port}`;
  const config = readConfig({ REDIS_URL: url, SESSION_WRITES: writes, SESSION_TTL_SECONDS: String(DAY_S) });
  const ready = Promise.withResolvers<void>();
  const client = connectRedis(config, 'test', state => state === 'ready' && ready.resolve());
  assert.ok(client);
  after(() => closeRedis(client));
  await ready.promise;
  return { store: openSessionStore(config, client, placesAt(config.sessionCookie)), client };
}
