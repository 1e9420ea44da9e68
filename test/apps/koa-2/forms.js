const path = require('path');
const Koa = require('koa');
const body = require('koa-body');
const views = require('koa-views');
const router = require('@koa/router')();
const app = (module.exports = new Koa());
const notes = [];

app.use(views(path.join(__dirname, 'views'), { extension: 'ejs' }));
app.use(body());
router.get('/', ctx => ctx.render('notes', { notes })).post('/', ctx => {
  notes.push(ctx.request.body.text);
  ctx.redirect('/');
});
app.use(router.routes());

if (!module.parent) app.listen(3000);
