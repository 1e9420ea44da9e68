// Answers at once; after `ms` in one of PLACES (2) places of a pool (as with two database connections); or after `ms` of work.
// With SLOW_WORKER=<id>, that worker takes five times as long.
import Koa from 'koa';

const app = new Koa();
const factor = process.env.SLOW_WORKER !== undefined && process.env.SLOW_WORKER === process.env.BOSUN_WORKER_ID ? 5 : 1;
const waiting = [];
let free = Number(process.env.PLACES ?? 2);
app.use(async ctx => {
  const ms = Number(ctx.query.ms) * factor;
  if (ctx.path === '/pool') {
    if (free > 0) free--;
    else await new Promise(resolve => waiting.push(resolve));
    await new Promise(resolve => setTimeout(resolve, ms));
    const next = waiting.shift();
    if (next) next();
    else free++;
  } else if (ctx.path === '/cpu') {
    for (const until = performance.now() + ms; performance.now() < until; );
  }
  ctx.body = 'hello';
});
export default app;
