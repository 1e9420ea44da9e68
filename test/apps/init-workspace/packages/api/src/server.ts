// @ts-nocheck: the types of Koa are not needed here
import { next } from '@acme/counter';
import Koa from 'koa';

export default kit => {
  const app = new Koa();
  app.use(kit.session);
  app.use(ctx => {
    ctx.session.counter = next(ctx.session.counter);
    ctx.body = { counter: ctx.session.counter, worker: process.pid, pid: process.pid };
  });
  return app;
};
