const Koa = require('koa');

/** @param {import('koa-bosun').Kit} kit */
module.exports = kit => {
  const app = new Koa();
  app.use(kit.session);
  app.use(ctx => {
    ctx.session.counter = (ctx.session.counter ?? 0) + 1;
    ctx.body = { counter: ctx.session.counter, worker: process.pid, pid: process.pid, text: 'before' };
  });
  return app;
};
