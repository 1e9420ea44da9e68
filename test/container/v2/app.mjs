// A Koa app that tells which process answers, and takes as much memory as it is asked to.
import Koa from 'koa';

const kept = [];
const app = new Koa();
app.use(ctx => {
  if (ctx.path === '/leak') kept.push(Buffer.alloc(Number(ctx.query.mb) << 20, 1));
  ctx.body = { pid: process.pid };
});
export default app;
