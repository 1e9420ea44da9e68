// A Koa app that returns which process answers, and allocates the requested amount of memory.
import Koa from 'koa';

const kept = [];
const app = new Koa();
app.use(ctx => {
  if (ctx.path === '/leak') kept.push(Buffer.alloc(Number(ctx.query.mb) << 20, 1));
  ctx.body = { pid: process.pid };
});
export default app;
