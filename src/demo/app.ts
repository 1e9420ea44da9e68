/**
 * The demo app: each route shows one feature of the kit.
 */
import { hostname } from 'node:os';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Koa, { type Context } from 'koa';
import type { Kit, SessionContext } from '../index.ts';

/** The limit of /slow and /cpu: anyone can reach the demo. */
const MAX_MS = 60_000;

const GREETING = 'Hello';
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'];

type Route = (ctx: Context & SessionContext) => unknown;

export default function createApp(kit: Kit): Koa {
  const app = new Koa();
  const session = kit.session;
  const leaked: Buffer[] = [];
  let greeting = GREETING;
  const ownLevel = kit.log.level;
  // Each update is complete: what it does not name goes back to its default, as in a worker that starts later.
  kit.on('configUpdate', data => {
    const update = updateOf(data);
    greeting = update.greeting ?? GREETING;
    kit.log.level = update.logLevel ?? ownLevel;
    kit.log.info({ event: 'demo.configured', greeting, logLevel: kit.log.level });
  });

  const plain: Record<string, Route> = {
    '/slow': async ctx => {
      const ms = milliseconds(ctx, 1000);
      await sleep(ms);
      ctx.body = { ms, worker: kit.workerId };
    },
    '/cpu': ctx => {
      const ms = milliseconds(ctx, 100);
      const until = performance.now() + ms;
      while (performance.now() < until);
      ctx.body = { ms, worker: kit.workerId };
    },
    '/stream': ctx => {
      ctx.type = 'text/event-stream';
      ctx.body = ticks(kit.draining);
    },
  };
  const dangerous: Record<string, Route> = {
    '/crash': ctx => {
      setImmediate(() => {
        throw new Error('crashed on request, by /crash');
      });
      ctx.body = { crashing: true, worker: kit.workerId };
    },
    '/leak': ctx => {
      leaked.push(Buffer.alloc(Math.min(Number(ctx.query.mb ?? 10), 100) << 20, 1));
      ctx.body = { leakedMb: leaked.reduce((sum, { length }) => sum + length, 0) >> 20, worker: kit.workerId };
    },
  };
  const withSession: Record<string, Route> = {
    '/': ctx => {
      const visits = count(ctx);
      ctx.type = 'html';
      ctx.body = page({ greeting, visits, worker: kit.workerId, user: ctx.session?.user });
    },
    '/api/counter': ctx => {
      ctx.body = { counter: count(ctx), user: ctx.session?.user, worker: kit.workerId, pid: process.pid, pod: hostname() };
    },
    '/login': async ctx => {
      await ctx.session?.regenerate();
      if (ctx.session) ctx.session.user = String(ctx.query.user ?? 'captain').slice(0, 100);
      ctx.body = { user: ctx.session?.user, worker: kit.workerId };
    },
    '/logout': ctx => {
      ctx.session = null;
      ctx.body = { user: null, worker: kit.workerId };
    },
  };

  app.use(serve({ ...plain, ...(kit.config.production ? {} : dangerous) }));
  // Only these routes wait for the session store, and only they fail without it.
  app.use((ctx, next) => (ctx.path in withSession ? session(ctx, next) : next()));
  app.use(serve(withSession));
  return app;
}

function serve(routes: Record<string, Route>): Koa.Middleware<Koa.DefaultState, SessionContext> {
  const byPath = new Map(Object.entries(routes));
  return (ctx, next) => {
    const route = byPath.get(ctx.path);
    return route ? route(ctx) : next();
  };
}

/** The valid part of an event's data, which comes from an operator and may be anything. */
function updateOf(data: unknown): { greeting?: string; logLevel?: string } {
  const { greeting, logLevel } = Object(data) as Record<string, unknown>;
  return {
    ...(typeof greeting === 'string' && { greeting: greeting.slice(0, 100) }),
    ...(LOG_LEVELS.includes(String(logLevel)) && { logLevel: String(logLevel) }),
  };
}

function milliseconds(ctx: Context, fallback: number): number {
  const ms = Number(ctx.query.ms ?? fallback);
  if (!(ms >= 0 && ms <= MAX_MS)) ctx.throw(400, `ms must be a number from 0 to ${MAX_MS}, got ${JSON.stringify(ctx.query.ms)}`);
  return ms;
}

function count(ctx: SessionContext): number {
  if (ctx.session === null) return 0;
  const visits = Number(ctx.session.visits ?? 0) + 1;
  ctx.session.visits = visits;
  return visits;
}

/** Server-sent events: the time every second, until the worker drains; the browser then reconnects, to another worker. */
function ticks(draining: AbortSignal): PassThrough {
  const stream = new PassThrough();
  const tick = () => stream.write(`data: ${new Date().toISOString()}\n\n`);
  const timer = setInterval(tick, 1000);
  const end = () => stream.end('retry: 100\n\n');
  stream.write('retry: 1000\n\n');
  tick();
  if (draining.aborted) end();
  draining.addEventListener('abort', end);
  stream.once('close', () => {
    clearInterval(timer);
    draining.removeEventListener('abort', end);
  });
  return stream;
}

function page({ greeting, visits, worker, user }: { greeting: string; visits: number; worker: number; user: unknown }): string {
  const name = typeof user === 'string' ? escapeHtml(user) : 'stranger';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>koa-bosun demo</title>
<link rel="icon" href="data:,">
<style>body{font:1.1rem/1.6 system-ui;max-width:36rem;margin:4rem auto;padding:0 1rem;color-scheme:light dark}b{font-size:1.4em}</style>
<h1>${escapeHtml(greeting)}, ${name}</h1>
<p>This is your visit <b>${visits}</b>, answered by worker <b>${worker}</b> (process ${process.pid}) of pod <b>${escapeHtml(hostname())}</b>.</p>
<p>Reload: whichever worker answers, the counter goes on. Try <a href="/login?user=captain">/login</a>, <a href="/logout">/logout</a>,
<a href="/slow?ms=500">/slow</a>, <a href="/cpu?ms=100">/cpu</a>, <a href="/stream">/stream</a>, <a href="/api/counter">/api/counter</a>.</p>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
}
