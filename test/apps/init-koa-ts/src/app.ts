import Koa, { type Middleware } from 'koa';

/** Enums need a compiler, or a loader. */
enum Text {
  Counter = 'counter',
}

export function app(session: Middleware): Koa {
  const koa = new Koa();
  koa.use(session);
  koa.use(ctx => {
    const counter = (Number(ctx.session?.[Text.Counter]) || 0) + 1;
    if (ctx.session) ctx.session[Text.Counter] = counter;
    ctx.body = { counter, worker: process.pid, pid: process.pid };
  });
  return koa;
}
