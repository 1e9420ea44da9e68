/**
 * What a client gets where the kit's session cannot be read, written or kept, and how its cookie is set.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import Koa from 'koa';
import { readConfig } from '../src/config/config.ts';
import type { RedisClient } from '../src/state/redis.ts';
import { sessionMiddleware } from '../src/state/session.ts';
import { placesAt } from './places.ts';
import { request } from './process/clients.ts';
import { Visitor } from './visitor.ts';

type Layer = (ctx: Koa.Context & { session: Record<string, unknown> | null; sessionOptions?: unknown }) => unknown;

interface Setup {
  env?: Record<string, string>;
  redis?: object;
  keys?: string[];
}

/** An app with a session on "/s…" only. @returns its port, its errors, and those of the store */
async function serve(layer: Layer, { env = {}, redis, keys = ['key'] }: Setup = {}) {
  const storeErrors: string[] = [];
  const errors: string[] = [];
  const config = readConfig({ SESSION_TTL_SECONDS: '100', ...env });
  const onStoreError = ({ message }: Error) => storeErrors.push(message);
  const session = sessionMiddleware(
    config,
    redis && { client: redis as unknown as RedisClient, places: placesAt(config.sessionCookie) },
    { current: keys },
    onStoreError,
  );
  const app = new Koa();
  app.on('error', ({ message }: Error) => errors.push(message));
  app.use((ctx, next) => (ctx.path.startsWith('/s') ? session(ctx, next) : next()));
  app.use(layer as unknown as Koa.Middleware);
  const server = app.listen(0, '127.0.0.1');
  after(() => server.close());
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, storeErrors, errors };
}

const visit: Layer = ctx => {
  if (ctx.session) ctx.session.visits = Number(ctx.session.visits ?? 0) + 1;
  ctx.body = 'ok';
};

/** A client that stores sessions; `other` is found in place of what a versioned write has read. */
function redisOver(values: Map<string, string>, other: () => string | undefined = () => undefined) {
  return {
    get: async (key: string) => values.get(key) ?? null,
    eval: async (_script: string, _keys: number, key: string, _ttl: number, json: string) => {
      const found = other();
      if (found !== undefined) return found;
      values.set(key, json);
      return 1;
    },
  };
}

const REDIS_URL = 'redis://redis';

test('before the session keys are known, and while Redis fails, only routes with a session are answered with 503', async () => {
  const failing = { get: () => Promise.reject(new Error('Connection is closed.')), eval: () => Promise.reject(new Error('no')) };
  for (const [setup, reason] of [
    [{ keys: [], redis: redisOver(new Map()) }, 'the names and session keys have not been read from Redis yet'],
    [{ redis: failing }, /^the session store failed: /],
  ] as const) {
    const { port, storeErrors, errors } = await serve(visit, { ...setup, env: { REDIS_URL } } as Setup);
    const visitor = new Visitor();
    const { status, headers, body } = await visitor.request(port, '/s');
    assert.deepEqual([status, headers['retry-after']], [503, '1']);
    assert.equal(body, 'The session store is not available. Please try again in a moment.\n');
    assert.equal(storeErrors.length, 1);
    assert.match(storeErrors[0] ?? '', new RegExp(reason));
    assert.equal((await visitor.request(port, '/')).status, 200);
    assert.deepEqual(errors, []);
  }
});

test('with SESSION_WRITES=versioned a request whose changes conflict is answered with 409 and may be repeated at once', async () => {
  const values = new Map<string, string>();
  const other = () => (values.size > 0 ? '{"visits":7}' : undefined);
  const { port, storeErrors } = await serve(visit, {
    redis: redisOver(values, other),
    env: { REDIS_URL, SESSION_WRITES: 'versioned' },
  });
  const visitor = new Visitor();
  assert.equal((await visitor.request(port, '/s')).status, 200);
  const { status, headers, body } = await visitor.request(port, '/s');
  assert.deepEqual([status, headers['retry-after']], [409, '0']);
  assert.equal(body, 'Another request has changed the session at the same time. Please try again.\n');
  assert.deepEqual(storeErrors, []);
});

test('other errors of an app are left to Koa', async () => {
  const { port, errors } = await serve(() => {
    throw new Error('a mishap');
  });
  assert.equal((await new Visitor().request(port, '/s')).status, 500);
  assert.deepEqual(errors, ['a mishap']);
});

test('without Redis a session of more than 3,800 bytes in base64 is an error that names the limit', async () => {
  let length = 0;
  const { port, errors } = await serve(ctx => {
    if (ctx.session) ctx.session.text = 'x'.repeat(length);
    ctx.body = 'ok';
  });
  const bytes = (characters: number) => {
    const session = { text: 'x'.repeat(characters), _expire: Date.now(), _maxAge: 100_000 };
    return Buffer.from(JSON.stringify(session)).toString('base64').length;
  };
  while (bytes(length) < 3800) length++;
  assert.equal(bytes(length), 3800);
  const fitting = new Visitor();
  assert.equal((await fitting.request(port, '/s')).status, 200);
  assert.equal(fitting.cookies.get('koa:sess')?.length, 3800);
  length += 3;
  assert.equal((await new Visitor().request(port, '/s')).status, 500);
  assert.deepEqual(errors, [
    'a session without Redis must fit into a cookie, 3800 bytes with base64, got 3804: keep less in it, or set REDIS_URL',
  ]);
});

test('with Redis the cookie has the id only, however large the session is', async () => {
  const values = new Map<string, string>();
  const layer: Layer = ctx => {
    if (ctx.session) ctx.session.text = 'x'.repeat(5000);
    ctx.body = 'ok';
  };
  const { port } = await serve(layer, { redis: redisOver(values), env: { REDIS_URL } });
  const visitor = new Visitor();
  assert.equal((await visitor.request(port, '/s')).status, 200);
  assert.deepEqual([...values.keys()], [`koa:sess:${visitor.cookies.get('koa:sess')}`]);
});

test('the session cookie lives as long as the session, and is renewed in its second half even if the app does not use it', async t => {
  t.mock.timers.enable({ apis: ['Date'], now: Math.ceil(Date.now() / 1000) * 1000 }); // a cookie expires at a whole second
  const values = new Map<string, string>();
  const { port } = await serve(
    ctx => {
      if (ctx.path === '/s-set') visit(ctx);
      ctx.body = 'ok';
    },
    { redis: redisOver(values), env: { REDIS_URL } },
  );
  const visitor = new Visitor();
  const expiresIn = async (path: string) => {
    const { headers } = await visitor.request(port, path);
    const [, date] = /^koa:sess=[^;]+;.* expires=([^;]+);/.exec(headers['set-cookie'] ?? '') ?? [];
    return date === undefined ? undefined : Math.round((Date.parse(date) - Date.now()) / 1000);
  };
  assert.equal(await expiresIn('/s-set'), 100);
  t.mock.timers.tick(40_000);
  assert.equal(await expiresIn('/s'), undefined);
  t.mock.timers.tick(20_000);
  assert.equal(await expiresIn('/s'), 100);
});

test('only a forwarded protocol of https makes the cookie secure, with TRUST_PROXY', async () => {
  for (const [header, trusted, name] of [
    ['https', 'true', '__Host-koa:sess'],
    ['https, http', 'true', '__Host-koa:sess'],
    ['https', 'false', 'koa:sess'],
    ['http, https', 'true', 'koa:sess'],
    ['httpsx', 'true', 'koa:sess'],
    ['xhttps', 'true', 'koa:sess'],
  ] as const) {
    const { port } = await serve(visit, { env: { TRUST_PROXY: trusted } });
    const { headers } = await request(port, '/s', { headers: { 'X-Forwarded-Proto': header } });
    const names = (headers['set-cookie'] ?? '').split('\n').map(line => line.replace(/=.*/, ''));
    assert.deepEqual(names, [name, `${name}.sig`], `${header}, TRUST_PROXY=${trusted}`);
  }
});

test('an app can read the options of its session', async () => {
  let options: unknown;
  const { port } = await serve(ctx => {
    options = ctx.sessionOptions;
    ctx.body = 'ok';
  });
  await new Visitor().request(port, '/s');
  assert.equal((options as { maxAge: number }).maxAge, 100_000);
});
