const Koa = require('koa');
const app = (module.exports = new Koa());

app.use(async (ctx, next) => {
  try {
    await next();
  } catch (error) {
    ctx.status = error.status || 500;
    ctx.body = 'it broke';
    ctx.app.emit('error', error, ctx);
  }
});
app.use(async () => {
  throw new Error('boom');
});
app.on('error', error => console.log('reported: %s', error.message));

if (!module.parent) app.listen(3000);
