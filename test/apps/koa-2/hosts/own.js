const Koa = require('koa');
const app = (module.exports = new Koa());

app.use(ctx => {
  ctx.body = `the host ${ctx.hostname}`;
});
