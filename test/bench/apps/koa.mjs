// The app that every server of a benchmark runs: `/` answers at once, `/cpu?ms=N` computes for that long.
import Koa from 'koa';

const app = new Koa();
app.use(ctx => {
  if (ctx.path === '/cpu') {
    const until = performance.now() + Number(ctx.query.ms);
    while (performance.now() < until);
  }
  ctx.body = { hello: 'world' };
});
export default app;
