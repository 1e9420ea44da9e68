// Answers at once, or after `ms` in one of two places of a pool (as with two database connections).
import Koa from 'koa';

const app = new Koa();
const waiting = [];
let free = 2;
app.use(async ctx => {
  if (ctx.path === '/pool') {
    if (free > 0) free--;
    else await new Promise(resolve => waiting.push(resolve));
    await new Promise(resolve => setTimeout(resolve, Number(ctx.query.ms)));
    const next = waiting.shift();
    if (next) next();
    else free++;
  }
  ctx.body = 'hello';
});
export default app;
