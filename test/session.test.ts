/**
 * `kit.session` in typical Koa apps: with keys and cookies of their own, mounted anywhere, more than once, in an app inside
 * another one. Each promise holds for sessions in cookies and in Redis.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import Koa from 'koa';
import compose from 'koa-compose';
import koaSession from 'koa-session';
import { readConfig } from '../src/config/config.ts';
import { closeRedis, connectRedis, type RedisClient } from '../src/state/redis.ts';
import { sessionMiddleware } from '../src/state/session.ts';
import { placesAt } from './places.ts';
import { type Answer, request } from './process/clients.ts';
import { LocalRedis, withRedis } from './process/redis.ts';
import { Visitor } from './visitor.ts';

const COOKIE = 'koa:sess';
const KEYS = ['the new key', 'the old key'];
const OVER_TLS = { 'X-Forwarded-Proto': 'https' };

type Context = Koa.Context & { session: Record<string, unknown> | null };
type Middleware = (ctx: Context, next: Koa.Next) => unknown;

let redis: LocalRedis | undefined;
let client: RedisClient | undefined;
/** Commands that write a session. */
let writes = 0;

before(async () => {
  if (withRedis.skip) return;
  redis = await LocalRedis.start();
  const ready = Promise.withResolvers<void>();
  client = connectRedis(readConfig({ REDIS_URL: redis.url }), 'test', state => state === 'ready' && ready.resolve());
  await ready.promise;
  assert.ok(client);
  const write = client.eval.bind(client) as (...args: unknown[]) => Promise<unknown>;
  client.eval = ((...args: unknown[]) => {
    writes++;
    return write(...args);
  }) as RedisClient['eval'];
});

after(async () => {
  if (client) await closeRedis(client);
  await redis?.stop();
});

for (const mode of ['in cookies', 'in Redis'] as const) {
  describe(`sessions ${mode}`, mode === 'in Redis' ? withRedis : {}, () => {
    const isStored = mode === 'in Redis';

    /** As a worker makes it: one for all mounts of all apps. */
    function kitSession(keys = KEYS): Middleware {
      const config = readConfig({ TRUST_PROXY: 'true' });
      return sessionMiddleware(
        config,
        isStored && client ? { client, places: placesAt(config.sessionCookie) } : undefined,
        { current: keys },
        assert.ifError,
      ) as unknown as Middleware;
    }

    test('sessions work from the first request, even if cookies are used before them', async () => {
      const session = kitSession();
      const app = appOf(
        (ctx, next) => {
          ctx.state.language = ctx.cookies.get('lang') ?? 'en';
          ctx.cookies.set('seen', 'yes');
          return next();
        },
        session,
        visit,
      );
      const port = await serve(app);
      const visitor = new Visitor();
      for (const visits of [1, 2, 3]) assert.equal((await visitor.request(port, '/')).body, JSON.stringify({ visits }));
      assert.deepEqual([...visitor.cookies.keys()], ['seen', COOKIE, `${COOKIE}.sig`], 'the app’s own cookie is not signed');
      assert.equal(app.keys, undefined);
    });

    test('sessions leave the keys of the app unchanged: its signatures stay valid', async () => {
      const remember: Middleware = (ctx, next) => {
        ctx.state.remembered = ctx.cookies.get('remember', { signed: true }) ?? null;
        ctx.cookies.set('remember', 'me', { signed: true });
        return next();
      };
      for (const order of [
        [remember, kitSession()],
        [kitSession(), remember],
      ]) {
        const app = appOf(...order, ctx => {
          visit(ctx);
          ctx.body = { remembered: ctx.state.remembered, visits: ctx.session?.visits };
        });
        const keys = ['the key of this app'];
        app.keys = keys;
        const port = await serve(app);
        const visitor = new Visitor();
        assert.equal((await visitor.request(port, '/')).body, '{"remembered":null,"visits":1}');
        assert.equal((await visitor.request(port, '/')).body, '{"remembered":"me","visits":2}');
        assert.equal(visitor.cookies.get('remember.sig'), sign('the key of this app', 'remember=me'));
        assert.equal(visitor.cookies.get(`${COOKIE}.sig`), sign(KEYS[0] ?? '', `${COOKIE}=${visitor.cookies.get(COOKIE)}`));
        assert.equal(app.keys, keys);
      }
    });

    test('sessions signed by koa-session with the same keys in app.keys stay valid', async () => {
      if (isStored) return; // what is in the store is the same either way
      const plain = new Koa({ keys: KEYS });
      plain.use(koaSession({ key: COOKIE }, plain)).use(visit as unknown as Koa.Middleware);
      const visitor = new Visitor();
      await visitor.request(await serve(plain), '/');
      assert.equal((await visitor.request(await serve(appOf(kitSession(), visit)), '/')).body, '{"visits":2}');
    });

    test("sessions of the kit are separate from those of the app's own koa-session", async () => {
      const app = new Koa({ keys: ['the key of this app'] });
      app.use(koaSession({ key: 'own' }, app));
      const visitOwn: Middleware = (ctx, next) => {
        visit(ctx);
        ctx.state.own = ctx.session?.visits;
        return next();
      };
      const session = kitSession();
      const layers: Middleware[] = [visitOwn, (ctx, next) => (ctx.path === '/' ? session(ctx, next) : undefined), visit];
      for (const layer of layers) app.use(layer as unknown as Koa.Middleware);
      const port = await serve(app);
      const visitor = new Visitor();
      for (const path of ['/own', '/', '/']) await visitor.request(port, path);
      assert.deepEqual([...visitor.cookies.keys()], ['own', 'own.sig', COOKIE, `${COOKIE}.sig`]);
      assert.equal((await visitor.request(port, '/own')).body, '{"visits":4}');
      assert.equal((await visitor.request(port, '/')).body, '{"visits":3}');
    });

    test('sessions signed with an older key are signed again, for the lifetime of the cookie', async () => {
      const visitor = new Visitor();
      await visitor.request(await serve(appOf(kitSession(KEYS.slice(1)), visit)), '/');
      const port = await serve(appOf(kitSession(), look));
      const { headers, body } = await visitor.request(port, '/');
      assert.deepEqual(JSON.parse(body), { visits: 1 });
      assert.match(
        headers['set-cookie'] ?? '',
        new RegExp(`^${COOKIE}\\.sig=[\\w-]+; path=/; expires=[^;]+; samesite=lax; httponly$`),
      );
      assert.equal(visitor.cookies.get(`${COOKIE}.sig`), sign(KEYS[0] ?? '', `${COOKIE}=${visitor.cookies.get(COOKIE)}`));
      assert.equal((await visitor.request(port, '/')).headers['set-cookie'], undefined);
    });

    /** Where a session is mounted twice: each layer changes a field, and the app's answer is that of `last`. */
    const arrangements: Record<string, (session: Middleware, first: Middleware, last: Middleware) => Koa> = {
      'at the app twice': (session, first, last) => appOf(session, first, session, last),
      'at the app and on a route': (session, first, last) => appOf(session, first, (ctx, next) => session(ctx, next), last),
      'in an app whose middleware is mounted': (session, first, last) => appOf(session, first, mounted(appOf(session, last))),
      'in an app whose callback is called': (session, first, last) => appOf(session, first, called(appOf(session, last))),
      'in the inner app of two alone': (session, first, last) => appOf(called(appOf(session, first, session, last))),
      'one after the other': (session, first, last) => {
        const alone =
          (layer: Middleware): Middleware =>
          ctx =>
            session(ctx, async () => void (await layer(ctx, async () => undefined)));
        return appOf(async (ctx, next) => {
          await alone(first)(ctx, next);
          await alone(last)(ctx, next);
        });
      },
      'at the same time, the second for longer': (session, first, last) =>
        appOf((ctx, next) => {
          const begun = Promise.withResolvers<void>();
          const ended = session(ctx, () => begun.promise.then(() => void first(ctx, async () => undefined)));
          const longer = session(ctx, async () => {
            begun.resolve();
            await ended;
            await last(ctx, next);
          });
          return Promise.all([ended, longer]);
        }),
    };
    for (const [name, arrange] of Object.entries(arrangements)) {
      test(`a session mounted twice (${name}) is one session, over TLS too`, async () => {
        const port = await serve(
          arrange(
            kitSession(),
            (ctx, next) => {
              assert.ok(ctx.session);
              ctx.session.first = Number(ctx.session.first ?? 0) + 1;
              return next();
            },
            ctx => {
              assert.ok(ctx.session);
              ctx.session.last = Number(ctx.session.last ?? 0) + 1;
              ctx.body = ctx.session;
            },
          ),
        );
        for (const [cookie, headers] of [
          [COOKIE, {}],
          [`__Host-${COOKIE}`, OVER_TLS],
        ] as const) {
          let cookies = {};
          for (const count of [1, 2, 3]) {
            writes = 0;
            const answer = await request(port, '/', { headers: { ...headers, ...cookies } });
            assert.deepEqual(JSON.parse(answer.body), { first: count, last: count });
            assert.deepEqual(Object.keys(cookiesOf(answer)), [cookie, `${cookie}.sig`]);
            if (isStored) assert.equal(writes, name === 'one after the other' ? 2 : 1);
            cookies = {
              Cookie: Object.entries(cookiesOf(answer))
                .map(pair => pair.join('='))
                .join('; '),
            };
          }
        }
      });
    }

    test('sessions behave as in koa-session: replaced, ended, listed, as JSON, at an error', async () => {
      const session = kitSession();
      const app = appOf(
        async (ctx, next) => {
          try {
            await next();
          } catch (error) {
            ctx.body = { error: (error as Error).message, user: ctx.session?.user };
          }
        },
        session,
        ctx => {
          if (ctx.path === '/replace') ctx.session = { user: 'captain' };
          if (ctx.path === '/end') ctx.session = null;
          if (ctx.path === '/undefined') ctx.session = undefined as unknown as null;
          if (ctx.path === '/fail') throw new Error('a mishap');
          ctx.body = { session: ctx.session, fields: Object.keys(JSON.parse(JSON.stringify(ctx.session)) ?? {}) };
        },
      );
      const port = await serve(app);
      const visitor = new Visitor();
      const bodyOf = async (path: string) => JSON.parse((await visitor.request(port, path)).body) as unknown;
      assert.deepEqual(await bodyOf('/'), { session: {}, fields: [] });
      assert.equal(visitor.cookies.size, 0, 'a session that nobody fills is not kept');
      await bodyOf('/replace');
      const captain = { session: { user: 'captain' }, fields: ['user'] };
      assert.deepEqual(await bodyOf('/'), captain);
      assert.deepEqual(await bodyOf('/fail'), { error: 'a mishap', user: 'captain' });
      assert.match(JSON.stringify(await bodyOf('/undefined')), /can only be set as null or an object/);
      assert.deepEqual(await bodyOf('/'), captain);
      assert.deepEqual(await bodyOf('/end'), { session: null, fields: [] });
      assert.equal(visitor.cookies.size, 0);
      assert.deepEqual(await bodyOf('/'), { session: {}, fields: [] });
    });
  });
}

const visit = (ctx: Context) => {
  assert.ok(ctx.session);
  ctx.session.visits = Number(ctx.session.visits ?? 0) + 1;
  ctx.body = { visits: ctx.session.visits };
};

const look = (ctx: Context) => {
  ctx.body = ctx.session;
};

function appOf(...layers: Middleware[]): Koa {
  const app = new Koa();
  app.silent = true;
  for (const layer of layers) app.use(layer as unknown as Koa.Middleware);
  return app;
}

/** As koa-mount does. */
const mounted = (app: Koa) => compose(app.middleware as unknown as Koa.Middleware[]) as unknown as Middleware;

const called = (app: Koa): Middleware => {
  const listener = app.callback();
  return ctx => {
    ctx.respond = false;
    return listener(ctx.req, ctx.res);
  };
};

async function serve(app: Koa): Promise<number> {
  app.proxy = true;
  const server = app.listen(0, '127.0.0.1');
  after(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function cookiesOf({ headers }: Answer): Record<string, string> {
  return Object.fromEntries(
    (headers['set-cookie'] ?? '').split('\n').map(line => {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      return [name, value];
    }),
  );
}

/** As the `cookies` package does. */
function sign(key: string, text: string): string {
  return createHmac('sha1', key).update(text).digest('base64url');
}
