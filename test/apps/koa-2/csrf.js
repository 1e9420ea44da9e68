const Koa = require('koa');
const body = require('koa-body');
const CSRF = require('koa-csrf');
const session = require('koa-session');
const router = require('@koa/router')();
const app = (module.exports = new Koa());

app.keys = ['one key', 'another key'];
app.use(session(app));
app.use(body());
app.use(new CSRF());
router.get('/token', ctx => {
  ctx.body = ctx.csrf;
});
app.use(router.routes());

if (!module.parent) app.listen(3000);
