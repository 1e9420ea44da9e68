const Koa = require('koa');
const auth = require('koa-basic-auth');
const app = (module.exports = new Koa());

app.use(async (ctx, next) => {
  try {
    await next();
  } catch (error) {
    if (error.status !== 401) throw error;
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Basic');
    ctx.body = 'who are you?';
  }
});
app.use(auth({ name: 'a', pass: 'b' }));
app.use(ctx => {
  ctx.body = 'come in';
});

if (!module.parent) app.listen(3000);
